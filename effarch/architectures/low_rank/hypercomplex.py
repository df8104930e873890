"""Parameterized hypercomplex multiplication: rules and numbers are learned.

PHM (arXiv:2102.08597): a sum of `N` Kronecker products, the left of each `N` by
`N`: complex numbers are one case of two, quaternions of four.

Axes: `I` input and `O` output features, `N` components, `K = I / N` and
`Q = O / N`, rounded up.
Parameters: `N^3 + N K Q`. MACs: as of `kronecker`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import ClassVar

from effarch.architectures.low_rank.kronecker import Kronecker
from effarch.architectures.low_rank.structure import LinearStructure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypercomplex(LinearStructure):
  """Products of numbers of `N` components.

  Args:
    components: `N`.
    params_ratio: see `Structure`.
  """

  components: int = 0

  chosen: ClassVar[str] = "components"

  def _sum(self) -> Kronecker:
    count = self.components
    return Kronecker(rank=count, left=(count, count))

  def draw(self, key, i, o):
    return self._sum().draw(key, i, o)

  def apply(self, factors, x, o):
    return self._sum().apply(factors, x, o)

  def to_dense(self, factors, i, o):
    return self._sum().to_dense(factors, i, o)

  def from_dense(self, weight):
    return self._sum().from_dense(weight)

  def params(self, i, o):
    return self._sum().params(i, o)

  def macs(self, i, o, batch):
    return self._sum().macs(i, o, batch)

  def sizes(self, i, o) -> Iterable[int]:
    # With more components, the left factors outgrow the right ones.
    return range(1, math.isqrt(math.isqrt(i * o)) + 1)
