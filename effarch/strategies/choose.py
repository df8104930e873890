"""One point of many: the best within limits, and the knee of a frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from effarch.config import did_you_mean
from effarch.errors import UserError
from effarch.strategies.frontier import non_dominated
from effarch.strategies.limits import Limit
from effarch.strategies.records import label


def best_under(
  rows: Sequence[Mapping[str, Any]], quality: str, limits: Sequence[Limit]
) -> Mapping[str, Any]:
  """Returns the row of most quality within all limits.

  Of equal ones it is that with least of the first limit's column, then of the
  next; then the earliest.

  Args:
    rows: as `collect` gives them, at least one.
    quality: a column of which more is better. As this is a decision, measured
      on validation data.
    limits: may be none.

  Raises:
    UserError: none fits, which names the nearest: it exceeds what it exceeds
      most by the smallest factor; or not all rows have such a column.
  """
  for column in (quality, *(limit.column for limit in limits)):
    _check(rows, column)
  fit = [row for row in rows if _excess(row, limits) <= 1]
  if not fit:
    nearest = min(rows, key=lambda row: _excess(row, limits))
    reached = (f"{limit.column} {nearest[limit.column]:,}" for limit in limits)
    raise UserError(
      f"no artifact has {' and '.join(map(str, limits))}; nearest is "
      f"{label(nearest)!r} with {' and '.join(reached)}"
    )
  return max(
    fit,
    key=lambda row: (row[quality], *(-row[limit.column] for limit in limits)),
  )


def knee(points: np.ndarray, log: Sequence[int] = ()) -> int | None:
  """Returns the place of the frontier's knee among the points `N M`.

  Objectives are scaled, the frontier's worst to 0 and best to 1. The knee lies
  farthest beyond the plane through the ends, which are the best in each: with
  two objectives, farthest from the line between them (Das, "On Characterizing
  the 'Knee' of the Pareto Curve Based on Normal-Boundary Intersection", 1999).
  With more, ends may coincide, or their plane reward what is worse; it is the
  plane nearest to the ends, of those that do not, that weighs all alike. So
  two footprints that say the same count as one.

  Of equal points it is the earliest. There is none if no point lies beyond the
  plane: with fewer than three points, on a straight or hollow frontier.

  Args:
    points: larger is better.
    log: objectives of which ratios count, all above 0 or all below.

  Raises:
    ValueError: the logarithm of a number with other signs beside is asked for.
  """
  points = np.array(points, float)
  for column in log:
    values = points[:, column]
    if not ((values > 0).all() or (values < 0).all()):
      raise ValueError(f"log: objective {column} is not all above or below 0")
    points[:, column] = np.sign(values) * np.log(np.abs(values))
  front = np.flatnonzero(non_dominated(points))
  if len(front) < 3:
    return None
  worst, best = points[front].min(0), points[front].max(0)
  varied = best > worst
  if not varied.any():
    return None
  scaled = (points[front] - worst)[:, varied] / (best - worst)[varied]
  # Rounding must decide no tie.
  beyond = np.round(scaled @ _normal(scaled) - 1, 9)
  place = beyond.argmax()
  return int(front[place]) if beyond[place] > 0 else None


def _normal(scaled: np.ndarray) -> np.ndarray:
  """Returns `n` with `p @ n = 1` on the plane nearest to the ends."""
  dimensions = range(scaled.shape[1])
  ends = [max(scaled, key=lambda p: (p[m], p.sum())) for m in dimensions]
  # Where the ends leave a choice, the shortest weighs all alike.
  shortest = 1e-5 * np.eye(len(ends))
  target = np.repeat([1.0, 0.0], len(ends))
  return nnls(np.concatenate([ends, shortest]), target)[0]


def _excess(row: Mapping[str, Any], limits: Sequence[Limit]) -> float:
  return max((row[limit.column] / limit.most for limit in limits), default=0.0)


def _check(rows: Sequence[Mapping[str, Any]], column: str) -> None:
  known = {
    name
    for row in rows
    for name, value in row.items()
    if isinstance(value, int | float) and not isinstance(value, bool)
  }
  if column not in known:
    raise UserError(
      f"column {column!r}: unknown; {did_you_mean(column, known)}"
    )
  for row in rows:
    if not isinstance(row.get(column), int | float):
      raise UserError(f"{label(row)}: has no {column}; measure it first")
