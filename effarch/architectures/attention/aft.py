"""Weights by channel, of a key and of a trained bias for pairs of places.

Attention free transformer, AFT-full (arXiv:2105.14103):
`y_t = sigmoid(q_t) sum_s exp(k_s + w_ts) v_s / sum_s exp(k_s + w_ts)`, where
`w = u v^T` has rank `R`.

Axes: `B` batch, `T` tokens, `C` channels, `M` the greatest length.
Parameters: `4 C^2 + 2 M R`.
MACs: `4 T C^2 + T^2 R + 2 B T^2 C`, the second once for all of the batch.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from effarch.architectures.attention.kernel import divide
from effarch.architectures.attention.mixer import (
  Mixer,
  Supports,
  check_length,
)
from effarch.architectures.attention.softmax import UNSEEN

# Of causal keys, which no largest one scales, as that could come later: their
# exponentials and sums of these must be numbers of float32.
_LARGEST = 60.0


def attention_free(
  query: Float[Array, "B T C"],
  key: Float[Array, "B S C"],
  value: Float[Array, "B S C"],
  bias: Float[Array, "T S"],
  *,
  causal: bool = False,
) -> Float[Array, "B T C"]:
  """Returns `sigmoid(query)` times averages with weights `exp(key + bias)`.

  Args:
    query: gates what comes out.
    key: of the tokens that are seen; `UNSEEN` hides one.
    value: of the tokens that are seen.
    bias: of pairs of places; `UNSEEN` hides one.
    causal: no output may depend, not even by rounding, on keys that its bias
      hides; keys out of [-60, 60] then count as what is nearest in it.
  """
  wide = jnp.promote_types(key.dtype, jnp.float32)
  key, bias = key.astype(wide), bias.astype(wide)
  row = lax.stop_gradient(bias.max(-1, keepdims=True))
  weights = jnp.where(bias > UNSEEN / 2, jnp.exp(bias - row), 0)
  exponents = jnp.clip(key, -_LARGEST, _LARGEST)
  if not causal:
    exponents = key - lax.stop_gradient(key.max(1, keepdims=True))
  shares = jnp.where(key > UNSEEN / 2, jnp.exp(exponents), 0)
  sums = jnp.einsum(
    "ts,bscw->btcw",
    weights,
    jnp.stack([shares * value.astype(wide), shares], axis=-1),
  )
  out = divide(sums)[..., 0]
  return (nnx.sigmoid(query.astype(wide)) * out).astype(query.dtype)


class AttentionFree(Mixer):
  """Mixes by weights for each channel.

  Args:
    features: `C`.
    max_length: `M`.
    rank: `R`, of the bias for pairs of places.
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
    rank: int = 128,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.max_length = max_length
    kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.dtype = dtype

    def linear():
      return nnx.Linear(features, features, use_bias=False, **kinds)

    self.query, self.key = linear(), linear()
    self.value, self.out = linear(), linear()
    draw = nnx.initializers.normal(rank**-0.5)
    shape = (max_length, rank)
    self.rows = nnx.Param(draw(rngs.params(), shape, param_dtype))
    self.columns = nnx.Param(draw(rngs.params(), shape, param_dtype))

  def mix(self, x, context, mask, causal):
    length = x.shape[1]
    check_length(length, self.max_length)
    bias = self.rows[:length] @ self.columns[:length].T
    if causal:
      bias = jnp.where(jnp.tri(length, dtype=bool), bias, UNSEEN)
    key, value = self.key(x), self.value(x)
    if mask is not None:
      key = jnp.where(mask[:, :, None], key, UNSEEN)
      value = jnp.where(mask[:, :, None], value, 0)
    mixed = attention_free(self.query(x), key, value, bias, causal=causal)
    return self.out(mixed)

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    check_length(max_length, self.max_length)
    shape = (batch_size, max_length, self.out.in_features)
    dtype = self.dtype or self.out.param_dtype
    return {
      "key": jnp.full(shape, UNSEEN, dtype),
      "value": jnp.zeros(shape, dtype),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position = state["position"]
    key, value = (
      state[name].at[:, position].set(layer(x).astype(state[name].dtype))
      for name, layer in (("key", self.key), ("value", self.value))
    )
    bias = self.rows[position][None] @ self.columns[: key.shape[1]].T
    # A key that has not come hides itself, and must not lend its bias.
    seen = jnp.arange(key.shape[1]) <= position
    bias = jnp.where(seen, bias, UNSEEN)
    query = self.query(x)[:, None]
    mixed = attention_free(query, key, value, bias, causal=True)
    return self.out(mixed[:, 0]), {
      "key": key,
      "value": value,
      "position": position + 1,
    }
