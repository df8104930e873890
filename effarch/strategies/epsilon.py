"""Frontiers in which points that differ by less than matters are one.

Epsilon-dominance: Laumanns, Thiele, Deb and Zitzler, "Combining Convergence
and Diversity in Evolutionary Multiobjective Optimization" (2002).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effarch.strategies.frontier import non_dominated


def thin(
  points: np.ndarray,
  additive: float | int | Sequence[float | int] = 0.0,
  relative: float | int | Sequence[float | int] = 0.0,
) -> np.ndarray:
  """Returns which of the points `N M` stand for all of them, bool `N`.

  A point stands for another if it falls behind it in no objective by more than
  `additive + relative * |other's value|`. Every point has one kept that stands
  for it, and no point dominates one that is kept: "within 0.1 points of
  accuracy and 2 % of the bytes is one" is `additive=(0.001, 0)` and
  `relative=(0, 0.02)` of `objectives(rows, ["accuracy"], ["size_bytes"])`.

  Those are taken first that stand for most of the rest, the earliest of equal
  ones, so there are at most `1 + ln N` times as many as need be (Chvatal,
  1979); it takes memory for the frontier squared.

  Args:
    points: larger is better.
    additive: what doesn't matter, of all objectives or one for each.
    relative: shares, 0 to 1, likewise.

  Raises:
    ValueError: a number is out of range.
  """
  points = np.asarray(points, float)
  _check("additive", additive, np.inf)
  _check("relative", relative, 1.0)
  front = np.flatnonzero(non_dominated(points))
  stands = _stands(points[front], additive, relative)
  kept = np.zeros(len(points), bool)
  alone = np.ones(len(front), bool)
  helped = stands.sum(1)
  while alone.any():
    best = helped.argmax()
    kept[front[best]] = True
    settled = alone & stands[best]
    helped -= stands[:, settled].sum(1)
    alone &= ~settled
  return kept


def _stands(points, additive, relative) -> np.ndarray:
  """Returns bool `N N`: whether the first point stands for the second."""
  # A column at a time: `N N M` numbers would be many.
  needed = points - additive - relative * np.abs(points)
  stands = np.ones((len(points), len(points)), bool)
  for column in range(points.shape[1]):
    stands &= points[:, None, column] >= needed[None, :, column]
  # Rounding must not keep a point from standing for itself.
  np.fill_diagonal(stands, True)
  return stands


def _check(
  name: str, value: float | int | Sequence[float | int], most: float
) -> None:
  given = np.asarray(value)
  if not ((given >= 0) & (given <= most)).all():
    raise ValueError(f"{name}: {value} is not in [0, {most}]")
