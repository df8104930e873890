"""A multi-layer perceptron that is gated by mixtures of other tokens.

gMLP (arXiv:2105.08050): `gelu(x U)` is split in two, of which one is normed,
mixed along the sequence by trained weights, and multiplied with the other.

Axes: `B` batch, `T` tokens, `C` channels, `F` hidden channels, `M` the greatest
length.
Parameters: `C F + F + F / 2 C + C + F + M^2 + M`.
MACs: `3/2 T C F + T^2 F / 2`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from effarch.architectures.attention.mixer import (
  Mixer,
  Supports,
  check_length,
)


class GatedMLP(Mixer):
  """Mixes by trained weights of pairs of places, as a gate.

  Args:
    features: `C`.
    max_length: `M`.
    hidden_features: `F`, even; `4 C` if None.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  supports = Supports(growth=2.0)

  def __init__(
    self,
    features: int,
    max_length: int,
    *,
    hidden_features: int | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    hidden = 4 * features if hidden_features is None else hidden_features
    if hidden % 2:
      raise ValueError(f"hidden_features: {hidden} is odd")
    self.max_length, self.dtype = max_length, dtype
    kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.expand = nnx.Linear(features, hidden, **kinds)
    self.norm = nnx.LayerNorm(hidden // 2, **kinds)
    # The gate begins as one: near no mixing, with a bias of ones.
    draw = nnx.initializers.normal(1e-2 / max_length)
    shape = (max_length, max_length)
    self.mixing = nnx.Param(draw(rngs.params(), shape, param_dtype))
    self.offset = nnx.Param(jnp.ones(max_length, param_dtype))
    self.out = nnx.Linear(hidden // 2, features, **kinds)

  def _halves(self, x):
    kept, mixed = jnp.split(nnx.gelu(self.expand(x)), 2, axis=-1)
    return kept, self.norm(mixed)

  def mix(self, x, context, mask, causal):
    length = x.shape[1]
    check_length(length, self.max_length)
    kept, mixed = self._halves(x)
    if mask is not None:
      mixed = jnp.where(mask[:, :, None], mixed, 0)
    weights = self.mixing[:length, :length].astype(mixed.dtype)
    if causal:
      weights = jnp.tril(weights)
    gate = jnp.einsum("ts,bsf->btf", weights, mixed)
    offset = self.offset[:length].astype(gate.dtype)
    return self.out(kept * (gate + offset[:, None]))

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    check_length(max_length, self.max_length)
    shape = (batch_size, max_length, self.out.in_features)
    return {
      "mixed": jnp.zeros(shape, self.dtype or self.out.param_dtype),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position, seen = state["position"], state["mixed"]
    kept, mixed = self._halves(x)
    # Those that have not come are zeros.
    seen = seen.at[:, position].set(mixed.astype(seen.dtype))
    weights = self.mixing[position, : seen.shape[1]].astype(seen.dtype)
    gate = jnp.einsum("s,bsf->bf", weights, seen)
    offset = self.offset[position].astype(gate.dtype)
    return self.out(kept * (gate + offset)), {
      "mixed": seen,
      "position": position + 1,
    }
