"""LoRA: what a frozen matrix learns has low rank (arXiv:2106.09685).

Axes: `B` batch, `I` input and `O` output features, `R` rank.
Parameters: `R (I + O)`; the frozen `I O` are kept beside them. MACs of an
input: `I O + R (I + O)`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.structure import LinearStructure


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA(LinearStructure):
  """`W + s U V`, with `W` frozen, `V` zeros at first, and `s = alpha / R`.

  Args:
    rank: `R`.
    alpha: by which changes are scaled; `R`, for a scale of one, if None.
    seed: draws `U` beside a given `W`.
    params_ratio: see `Structure`.
  """

  rank: int = 0
  alpha: float | None = None
  seed: int = 0

  frozen: ClassVar[tuple[str, ...]] = ("weight",)
  adapts: ClassVar[bool] = True
  folds: ClassVar[bool] = True

  def _scale(self):
    return 1.0 if self.alpha is None else self.alpha / self.rank

  def draw(self, key, i, o):
    weight, down = jax.random.split(key)
    return {
      "weight": jax.random.normal(weight, (i, o)) * i**-0.5,
      "down": jax.random.normal(down, (i, self.rank)) * i**-0.5,
      "up": jnp.zeros((self.rank, o)),
    }

  def apply(self, factors, x, o):
    change = x @ factors["down"] @ factors["up"]
    return x @ factors["weight"] + self._scale() * change

  def to_dense(self, factors, i, o):
    change = factors["down"] @ factors["up"]
    return factors["weight"] + self._scale() * change

  def from_dense(self, weight):
    i, o = weight.shape
    rng = np.random.default_rng(self.seed)
    return {
      "weight": weight,
      "down": rng.standard_normal((i, self.rank)) * i**-0.5,
      "up": np.zeros((self.rank, o)),
    }

  def params(self, i, o):
    return self.rank * (i + o)

  def macs(self, i, o, batch):
    return batch * (i * o + self.rank * (i + o))
