"""Pareto frontiers over any columns of quality and footprint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def objectives(
  rows: Sequence[Mapping[str, Any]],
  quality: Sequence[str],
  footprint: Sequence[str],
) -> np.ndarray:
  """Returns `N M` numbers, all of them better when larger.

  Args:
    rows: one for each point.
    quality: columns of which more is better.
    footprint: columns of which less is better.

  Raises:
    ValueError: a column is missing, or holds what is no finite number.
  """
  signed = [(name, 1.0) for name in quality]
  signed += [(name, -1.0) for name in footprint]
  points = np.empty((len(rows), len(signed)))
  for place, row in enumerate(rows):
    for column, (name, sign) in enumerate(signed):
      value = row.get(name)
      if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"row {place}: {name} is {value!r}, no finite number")
      points[place, column] = sign * value
  return points


def non_dominated(points: np.ndarray) -> np.ndarray:
  """Returns which of the points `N M` no other dominates, bool `N`.

  One point dominates another if it is at least as good in all objectives and
  better in one; so of equal points all stay.
  """
  points = np.asarray(points, float)
  columns = np.ascontiguousarray(points.T)
  kept = np.ones(len(points), bool)
  for place, point in enumerate(points[:, :, None]):
    # What a dominated point dominates, the one above it dominates as well.
    if kept[place]:
      kept &= ~((columns <= point).all(0) & (columns < point).any(0))
  return kept


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
  """Returns the volume that the points `N M` dominate above `reference`.

  Exact, by slicing along the last objective (Zitzler, 1999). Points that
  don't exceed the reference in every objective add nothing.

  Args:
    points: larger is better.
    reference: `M`, the corner from which volume counts.
  """
  reference = np.asarray(reference, float)
  # Of no points at all, the number of objectives is not known otherwise.
  points = np.reshape(points, (len(points), len(reference))) - reference
  return _volume(points[(points > 0).all(1)])


def _volume(points: np.ndarray) -> float:
  """Returns the volume of the union of boxes from the origin to the points."""
  if not len(points):
    return 0.0
  if points.shape[1] == 1:
    return float(points.max())
  if points.shape[1] == 2:
    right, up = points[np.argsort(-points[:, 0])].T
    # Left of each point, down to the next, the highest so far is the bound.
    return float((right - np.append(right[1:], 0)) @ np.maximum.accumulate(up))
  heights = np.unique(points[:, -1])
  volume, below = 0.0, 0.0
  for height in heights:
    reaching = points[points[:, -1] >= height, :-1]
    volume += (height - below) * _volume(reaching)
    below = height
  return volume


def relative_hypervolume(points: np.ndarray) -> float:
  """Returns the share of the box from the worst to the best values, 0 to 1.

  Objectives in which all points are equal are left out.
  """
  points = np.asarray(points, float)
  worst, best = points.min(0), points.max(0)
  varied = best > worst
  if not varied.any():
    return 1.0
  scaled = (points - worst)[:, varied] / (best - worst)[varied]
  return hypervolume(scaled, np.zeros(varied.sum()))
