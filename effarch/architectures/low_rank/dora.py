"""DoRA: LoRA's matrix gives directions, and lengths are learned beside it.

arXiv:2402.09353; each output's weights are divided by their length and
multiplied by a learned one, which begins as it was.

Axes: `B` batch, `I` input and `O` output features, `R` rank.
Parameters: `R (I + O) + O`; the frozen `I O` are kept beside them. MACs:
`I O` an input, and `R I O` once.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.lora import LoRA

_SMALLEST = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoRA(LoRA):
  """LoRA's matrix with columns of learned lengths.

  Args:
    rank: see `LoRA`.
    alpha: see `LoRA`.
    seed: see `LoRA`.
    params_ratio: see `Structure`.
  """

  def draw(self, key, i, o):
    factors = super().draw(key, i, o)
    length = jnp.linalg.norm(factors["weight"], axis=0)
    return {**factors, "length": length}

  def apply(self, factors, x, o):
    return x @ self.to_dense(factors, x.shape[1], o)

  def to_dense(self, factors, i, o):
    turned = super().to_dense(factors, i, o)
    squares = jnp.maximum(jnp.sum(turned**2, axis=0), _SMALLEST)
    return turned * (factors["length"] / jnp.sqrt(squares))

  def from_dense(self, weight):
    length = np.linalg.norm(weight, axis=0)
    return {**super().from_dense(weight), "length": length}

  def params(self, i, o):
    return super().params(i, o) + o

  def macs(self, i, o, batch):
    return batch * i * o + self.rank * i * o
