"""Attention by products of features: `phi(q) phi(k)` in place of a softmax.

What linear attention, Performer, cosFormer and random feature attention share
(Transformers are RNNs, arXiv:2006.16236).

Axes: `B` batch, `T` queries, `S` keys, `N` heads, `H` head size, `F` features.
MACs: `S N F (H + 1)` to sum, `T N F (H + 1)` to read; causal
`T L N (F + H + 1) + 2 T N F (H + 1)`, as in `recurrence`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from effarch.architectures.attention.heads import HeadMixer
from effarch.architectures.attention.mixer import Supports
from effarch.architectures.attention.recurrence import linear_recurrence
from effarch.architectures.attention.softmax import product

_SMALLEST = 1e-30


def kernel_attention(
  query: Float[Array, "B T N F"],
  key: Float[Array, "B S N F"],
  value: Float[Array, "B S N H"],
  *,
  mask: Bool[Array, "B S"] | None = None,
  causal: bool = False,
) -> Float[Array, "B T N H"]:
  """Returns values averaged with weights `phi(q) phi(k)`, normalised.

  Args:
    query: features of the tokens that see.
    key: features of the tokens that are seen.
    value: of the tokens that are seen.
    mask: true for keys that may be seen; who sees none gets zeros.
    causal: query `t` sees the keys `0 ... t`.
  """
  if mask is not None:
    key = jnp.where(mask[:, :, None, None], key, 0)
  value = with_one(value)
  if causal:
    return divide(linear_recurrence(query, key, value)[0])
  # The narrow product: many tokens, and few features and values.
  memory = product(key.transpose(0, 2, 3, 1), value.swapaxes(1, 2))
  out = jnp.einsum("btnf,bnfd->btnd", query.astype(memory.dtype), memory)
  return divide(out).astype(value.dtype)


def with_one(value: Float[Array, "*batch D"]) -> Float[Array, "*batch E"]:
  """Returns values with a one behind, which sums the weights."""
  return jnp.concatenate([value, jnp.ones_like(value[..., :1])], axis=-1)


def divide(out: Float[Array, "*batch E"]) -> Float[Array, "*batch D"]:
  """Returns sums of values divided by the sum of weights behind them.

  Where that is nothing, zeros.
  """
  total = out[..., -1:]
  nothing = abs(total) < _SMALLEST
  # The slope of a quotient has the square of what it is divided by, which
  # float32 may not hold; that of one near one does.
  scale = lax.stop_gradient(jnp.where(nothing, 1, total))
  near_one = jnp.where(nothing, 1, total / scale)
  return jnp.where(nothing, 0, out[..., :-1] / scale / near_one)


class KernelMixer(HeadMixer):
  """Heads whose weights are products of `features` of queries and keys."""

  supports = Supports(cross=True, constant_state=True)

  def features(
    self,
    x: Float[Array, "B T N H"],
    positions: Int[Array, " T"],
    is_query: bool,
  ) -> Float[Array, "B T N F"]:
    """Returns `phi`; each mechanism has its own.

    Args:
      x: queries or keys, as many heads of either.
      positions: their places in the sequence.
      is_query: queries may be scaled each, as that cancels; keys may not.
    """
    raise NotImplementedError

  def _mapped(self, query, key, value, start: int | Array = 0):
    key, value = self.for_all_heads(key, value)
    query = self.features(query, start + jnp.arange(query.shape[1]), True)
    key = self.features(key, start + jnp.arange(key.shape[1]), False)
    return query, key, value

  def attend(self, query, key, value, mask, causal):
    return kernel_attention(
      *self._mapped(query, key, value), mask=mask, causal=causal
    )

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    dtype = self.dtype or self.key.kernel.dtype
    heads = jnp.zeros((1, 1, self.num_heads, self.head_dim), dtype)
    size = self.features(heads, jnp.zeros(1, jnp.int32), False).shape[-1]
    shape = (batch_size, self.num_heads, size, self.head_dim + 1)
    wide = jnp.promote_types(dtype, jnp.float32)
    return {
      "memory": jnp.zeros(shape, wide),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position = state["position"]
    heads = self.project(x[:, None], x[:, None])
    query, key, value = self.turn(heads, position)
    query, key, value = self._mapped(query, key, value, position)
    out, memory = linear_recurrence(
      query, key, with_one(value), None, state["memory"]
    )
    out = self.out(divide(out).reshape(len(x), -1))
    return out, {"memory": memory, "position": position + 1}
