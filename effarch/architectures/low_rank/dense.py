"""A matrix as it is: what a structured one folds to.

Axes: `I` input and `O` output features.
Parameters: `I O`. MACs of an input: as many.
"""

from __future__ import annotations

import dataclasses

from effarch.architectures.low_rank.structure import LinearStructure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(LinearStructure):
  """All numbers of a matrix."""

  def __post_init__(self):
    pass  # There is nothing to choose.

  def apply(self, factors, x, o):
    return x @ factors["weight"]

  def to_dense(self, factors, i, o):
    return factors["weight"]

  def params(self, i, o):
    return i * o

  def macs(self, i, o, batch):
    return batch * i * o
