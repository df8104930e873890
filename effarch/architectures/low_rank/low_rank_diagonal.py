"""Low rank plus diagonal: most of an input goes straight through.

Axes: `B` batch, `I` input and `O` output features, `R` rank, `D` the lesser of
`I` and `O`.
Parameters: `R (I + O) + D`. MACs of an input: `R (I + O)`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.structure import (
  LinearStructure,
  leading,
  pad_to,
)

_TURNS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRankDiagonal(LinearStructure):
  """`U V`, and a diagonal on the first of inputs and outputs.

  For a given matrix both are found by turns, each the best beside the other.

  Args:
    rank: `R`.
    params_ratio: see `Structure`.
  """

  rank: int = 0

  def draw(self, key, i, o):
    down, up, diagonal = jax.random.split(key, 3)
    least = min(i, o)
    # A diagonal of ones as it were, whose share of the outputs' variance is
    # half where it reaches.
    signs = jax.random.rademacher(diagonal, (least,), jnp.float32)
    rest = jnp.where(jnp.arange(o) < least, 0.5, 1.0)
    return {
      "down": jax.random.normal(down, (i, self.rank)) * i**-0.5,
      "up": jax.random.normal(up, (self.rank, o)) * jnp.sqrt(rest / self.rank),
      "diagonal": signs * 0.5**0.5,
    }

  def apply(self, factors, x, o):
    straight = x[:, : len(factors["diagonal"])] * factors["diagonal"]
    return x @ factors["down"] @ factors["up"] + pad_to(straight, o)

  def to_dense(self, factors, i, o):
    dense = factors["down"] @ factors["up"]
    place = jnp.arange(len(factors["diagonal"]))
    return dense.at[place, place].add(factors["diagonal"])

  def from_dense(self, weight):
    place = np.arange(min(weight.shape))
    diagonal = np.zeros(len(place))
    down = up = np.zeros(0)
    for turn in range(_TURNS + 1):
      rest = weight.astype(np.float64)
      rest[place, place] -= diagonal
      down, up = leading(rest, self.rank)
      if turn < _TURNS:
        diagonal = (weight - down @ up)[place, place]
    return {"down": down, "up": up, "diagonal": diagonal}

  def params(self, i, o):
    return self.rank * (i + o) + min(i, o)

  def macs(self, i, o, batch):
    return batch * self.rank * (i + o)
