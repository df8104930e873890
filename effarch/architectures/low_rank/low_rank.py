"""Low rank: a matrix is the product of a tall and a wide one.

The best for a given matrix are its leading singular vectors (Eckart and Young,
*The approximation of one matrix by another of lower rank*, 1936).

Axes: `B` batch, `I` input and `O` output features, `R` rank.
Parameters: `R (I + O)`. MACs of an input: as many.
"""

from __future__ import annotations

import dataclasses

import jax

from effarch.architectures.low_rank.structure import LinearStructure, leading


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRank(LinearStructure):
  """`U V`.

  Args:
    rank: `R`.
    params_ratio: see `Structure`.
  """

  rank: int = 0

  def draw(self, key, i, o):
    first, second = jax.random.split(key)
    return {
      "down": jax.random.normal(first, (i, self.rank)) * i**-0.5,
      "up": jax.random.normal(second, (self.rank, o)) * self.rank**-0.5,
    }

  def apply(self, factors, x, o):
    return x @ factors["down"] @ factors["up"]

  def to_dense(self, factors, i, o):
    return factors["down"] @ factors["up"]

  def from_dense(self, weight):
    down, up = leading(weight, self.rank)
    return {"down": down, "up": up}

  def params(self, i, o):
    return self.rank * (i + o)

  def macs(self, i, o, batch):
    return batch * self.rank * (i + o)
