"""Which artifacts stand out: on the frontier, within noise of it, its knee."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effarch.strategies.choose import knee
from effarch.strategies.confidence import confident_frontier
from effarch.strategies.frontier import non_dominated, objectives
from effarch.strategies.seeds import samples


@dataclasses.dataclass(frozen=True)
class Marks:
  """Of rows, in their order.

  Args:
    frontier: which no other dominates, by their means.
    undecided: which others dominate by their means, but none with 95 %
      confidence, see `confidence.dominates`.
    knee: the place of the frontier's knee, footprints by their ratios, if it
      has one.
  """

  frontier: np.ndarray
  undecided: np.ndarray
  knee: int | None


def mark(
  rows: Sequence[Mapping[str, Any]], quality: str, footprint: Sequence[str]
) -> Marks:
  """Returns the marks of rows that all have these columns."""
  points = objectives(rows, [quality], footprint)
  # What can be 0 has no logarithm.
  ratios = [m for m in range(1, points.shape[1]) if (points[:, m] < 0).all()]
  frontier = non_dominated(points)
  measured = [samples(row, [quality], footprint) for row in rows]
  undecided = confident_frontier(measured) & ~frontier
  return Marks(frontier, undecided, knee(points, ratios))
