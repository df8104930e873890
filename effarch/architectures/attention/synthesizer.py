"""Attention whose weights are made without comparing tokens.

Synthesizer (arXiv:2005.00743): scores of a token are a small network of it
(dense), or trained numbers for each pair of places, whole (random) or as a
product of rank `R` (factorized random).

Axes as in `full`; `M` is the greatest length.
Parameters: `C K H + N H C` and of the scores `C N H + N M H` (dense), `N M^2`
(random), `2 N M R` (factorized).
MACs: of values and output `T C (K + N) H`, of averages `T^2 N H`, and of scores
`T C N H + T^2 N H` (dense), none (random), `T^2 N R` (factorized); causal as in
`full`, but for random.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.attention.full import attention
from effarch.architectures.attention.heads import SoftmaxMixer
from effarch.architectures.attention.mixer import Supports, check_length
from effarch.architectures.attention.softmax import drop, hide, weigh


class _Synthesizer(SoftmaxMixer):
  """What the three have in common: values, and a stream that keeps them."""

  supports = Supports(growth=2.0)
  position_kinds = ("none",)
  _parts = ("value",)

  def __init__(
    self,
    features: int,
    num_heads: int,
    max_length: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.max_length = max_length

  def _values(self, x):
    return self.value(x).reshape(*x.shape[:2], -1, self.head_dim)

  def mix(self, x, context, mask, causal):
    check_length(x.shape[1], self.max_length)
    mixed = self.synthesize(x, self._values(x), mask, causal)
    return self.out(mixed.reshape(*x.shape[:2], -1))

  def synthesize(self, x, value, mask, causal) -> Float[Array, "B T N H"]:
    """Returns values averaged with the weights of all tokens."""
    query, key = self._factors(x, 0, x.shape[1])
    (value,) = self.for_all_heads(value)
    return attention(
      *(query, key, value), mask=mask, causal=causal, **self.dropout()
    )

  def _factors(self, x, start, length) -> tuple[Array, Array]:
    """Returns `B T N R` and `B S N R`, whose products are the scores."""
    raise NotImplementedError

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    check_length(max_length, self.max_length)
    shape = (batch_size, max_length, self.num_kv_heads, self.head_dim)
    dtype = self.dtype or self.out.param_dtype
    return {
      "value": jnp.zeros(shape, dtype),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position, values = state["position"], state["value"]
    new = self._values(x[:, None])[:, 0].astype(values.dtype)
    values = values.at[:, position].set(new)
    seen = jnp.arange(values.shape[1])
    mixed = self.read(x[:, None], position, values, hide(seen <= position))
    out = self.out(mixed.reshape(len(x), -1))
    return out, {"value": values, "position": position + 1}

  def read(self, x, position, values, bias) -> Float[Array, "B 1 N H"]:
    """Returns what the token at a position reads of the values so far."""
    query, key = self._factors(x, position, values.shape[1])
    (values,) = self.for_all_heads(values)
    query, key, values = (x.swapaxes(1, 2) for x in (query, key, values))
    out, _ = weigh(query, key, values, bias[None])
    return out.swapaxes(1, 2)


class DenseSynthesizer(_Synthesizer):
  """Scores of a token by two layers: to heads, and to all places.

  Args:
    features: `C`.
    num_heads: `N`.
    max_length: `M`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  _parts = ("query", "value")

  def __init__(
    self,
    features: int,
    num_heads: int,
    max_length: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, max_length, rngs=rngs, **arguments)
    draw = nnx.initializers.normal(self.head_dim**-0.5)
    shape = (max_length, num_heads, self.head_dim)
    self.places = nnx.Param(draw(rngs.params(), shape, self.out.param_dtype))

  def _factors(self, x, start, length):
    hidden = nnx.relu(self.query(x)).reshape(*x.shape[:2], self.num_heads, -1)
    places = self.places[:length].astype(hidden.dtype)
    # Attention divides by the root of the head size; a layer does not.
    scaled = hidden * self.head_dim**0.5
    return scaled, jnp.broadcast_to(places, (len(x), *places.shape))


class RandomSynthesizer(_Synthesizer):
  """Scores are trained for each pair of places, and see no token.

  Args:
    features: `C`.
    num_heads: `N`.
    max_length: `M`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    max_length: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, max_length, rngs=rngs, **arguments)
    draw = nnx.initializers.normal(1.0)
    shape = (num_heads, max_length, max_length)
    self.scores = nnx.Param(draw(rngs.params(), shape, self.out.param_dtype))

  def synthesize(self, x, value, mask, causal):
    length = x.shape[1]
    rows = jnp.arange(length)
    bias = jnp.zeros((1, 1, length, length))
    if causal:
      bias = bias + hide(rows[:, None] >= rows)
    if mask is not None:
      bias = bias + hide(mask)[:, None, None]
    scores = self.scores[:, :length, :length]
    return self._average(scores, value, bias)

  def _average(self, scores, value, bias):
    scores = scores + bias
    weights = jnp.where(bias < 0, 0, nnx.softmax(scores))
    dropout = self.dropout()
    if dropout:
      weights = drop(weights, *dropout.values())
    weights = weights.astype(value.dtype)
    (value,) = self.for_all_heads(value)
    return jnp.einsum("bnts,bsnh->btnh", weights, value)

  def read(self, x, position, values, bias):
    row = self.scores[:, position, : values.shape[1]][:, None]
    return self._average(row, values, bias[None, None, None])


class FactorizedRandomSynthesizer(_Synthesizer):
  """Scores of each pair of places are a product of two trained vectors.

  Args:
    features: `C`.
    num_heads: `N`.
    max_length: `M`.
    rank: `R`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    max_length: int,
    *,
    rank: int = 8,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, max_length, rngs=rngs, **arguments)
    draw = nnx.initializers.normal(1.0)
    shape = (max_length, num_heads, rank)
    self.rows = nnx.Param(draw(rngs.params(), shape, self.out.param_dtype))
    self.columns = nnx.Param(draw(rngs.params(), shape, self.out.param_dtype))

  def _factors(self, x, start, length):
    dtype = self.dtype or jnp.promote_types(x.dtype, self.rows.dtype)
    places = start + jnp.arange(x.shape[1])
    rows = self.rows[places].astype(dtype) * self.rows.shape[-1] ** 0.5
    columns = self.columns[:length].astype(dtype)
    return (
      jnp.broadcast_to(rows, (len(x), *rows.shape)),
      jnp.broadcast_to(columns, (len(x), *columns.shape)),
    )
