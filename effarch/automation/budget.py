"""One budget of parameters and multiply-accumulates for many models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from effarch.errors import UserError


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a model may cost at most.

  Args:
    params: trained numbers.
    macs: multiply-accumulates of one example.
  """

  params: int
  macs: int

  def holds(self, other: Budget) -> bool:
    """Whether a cost is within."""
    return other.params <= self.params and other.macs <= self.macs


def largest(
  cost: Callable[[int], Budget], budget: Budget, least: int = 0
) -> int | None:
  """Returns the largest size whose cost is within a budget.

  Args:
    cost: of a size; parameters and MACs grow linearly from `least + 1` on, as
      those of a Transformer do with its hidden features.
    budget: what it may be at most.
    least: the smallest size.

  Returns:
    The size, or None if not even the least is within.
  """
  one, two = cost(least + 1), cost(least + 2)
  if not budget.holds(one):
    return least if budget.holds(cost(least)) else None
  found = []
  for name in ("params", "macs"):
    first, slope = getattr(one, name), getattr(two, name) - getattr(one, name)
    if slope > 0:
      found.append((getattr(budget, name) - first) // slope)
  if not found:
    raise UserError("largest: neither parameters nor MACs grow with the size")
  return least + 1 + min(found)
