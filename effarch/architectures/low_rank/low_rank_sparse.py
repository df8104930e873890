"""Low rank plus sparse: what few directions leave, few numbers hold.

The decomposition of GoDec (Zhou and Tao, ICML 2011), here with as many numbers
for each output: directions and numbers are found by turns, each the best beside
the other.

Axes: `B` batch, `I` input and `O` output features, `R` rank, `E` sparse numbers
of an output.
Parameters: `R (I + O) + E O`; their `E O` places are kept beside them. MACs of
an input: as many; or, where more inputs would be gathered than the matrix has
elements, it is made first, for `I O`, and `R I O` once.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.structure import LinearStructure, leading

_TURNS = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRankSparse(LinearStructure):
  """`U V + S`.

  Args:
    rank: `R`.
    per_output: `E`.
    params_ratio: see `Structure`.

  Raises:
    ValueError: an argument is out of its range.
  """

  rank: int = 0
  per_output: int = 8

  frozen: ClassVar[tuple[str, ...]] = ("places",)

  def __post_init__(self):
    super().__post_init__()
    if self.per_output < 1:
      raise ValueError(f"per_output: {self.per_output} is not positive")

  def _kept(self, i):
    return min(self.per_output, i)

  def draw(self, key, i, o):
    down, up, places, values = jax.random.split(key, 4)
    kept = self._kept(i)
    # Either part has half of the variance.
    half = (2 * i) ** -0.5
    order = jax.random.uniform(places, (o, i)).argsort(axis=1)
    return {
      "down": jax.random.normal(down, (i, self.rank)) * half,
      "up": jax.random.normal(up, (self.rank, o)) * self.rank**-0.5,
      "values": jax.random.normal(values, (o, kept)) * (2 * kept) ** -0.5,
      "places": order[:, :kept],
    }

  def apply(self, factors, x, o):
    if self._matrix_first(x.shape[1], len(x)):
      return x @ self.to_dense(factors, x.shape[1], o)
    seen = x[:, factors["places"]]
    sparse = jnp.einsum("boe,oe->bo", seen, factors["values"])
    return x @ factors["down"] @ factors["up"] + sparse

  def to_dense(self, factors, i, o):
    dense = factors["down"] @ factors["up"]
    outputs = jnp.arange(o)[:, None]
    return dense.at[factors["places"], outputs].add(factors["values"])

  def from_dense(self, weight):
    i, o = weight.shape
    kept, outputs = self._kept(i), np.arange(o)[:, None]
    places, values = np.zeros((o, kept), int), np.zeros((o, kept))
    down = up = np.zeros(0)
    for turn in range(_TURNS + 1):
      rest = weight.astype(np.float64)
      if turn:
        rest[places, outputs] -= values
      down, up = leading(rest, self.rank)
      if turn < _TURNS:
        missed = (weight - down @ up).T
        places = np.argsort(-abs(missed), axis=1)[:, :kept]
        values = np.take_along_axis(missed, places, axis=1)
    return {"down": down, "up": up, "values": values, "places": places}

  def params(self, i, o):
    return self.rank * (i + o) + self._kept(i) * o

  def macs(self, i, o, batch):
    if self._matrix_first(i, batch):
      return (batch + self.rank) * i * o
    return batch * self.params(i, o)

  def _matrix_first(self, i, batch):
    return batch * self._kept(i) > i
