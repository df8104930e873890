"""Attention among tokens that a hash brings together.

Reformer (arXiv:2001.04451): queries are the keys, of which the latter have
length one; random directions hash them to buckets, they are sorted by bucket
and cut to chunks, and see those of their bucket in their own chunk and the one
before. Rounds are joined by the sums of their weights, so a key that two rounds
find counts twice. A causal token sees at most the `L` latest of its bucket, so
that no later token decides, by moving the chunks' borders, what it sees.

Axes as in `full`; `L` tokens a chunk, `P` buckets, `R` rounds.
Parameters: `C N H + C N H + N H C`, as queries are keys.
MACs: those of the projections, `4 R T L N H` with `T` rounded up to chunks, and
to hash `R T N H P / 2`, none for one bucket.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from effarch.architectures.attention.delta import unit
from effarch.architectures.attention.heads import SoftmaxMixer
from effarch.architectures.attention.mixer import Drawn, Supports
from effarch.architectures.attention.softmax import (
  UNSEEN,
  each_head,
  hide,
  weigh,
)

# A token sees itself only where it sees no other.
_ITSELF = -1e5


def hashed(
  x: Float[Array, "T H"], directions: Float[Array, "R H P"]
) -> Int[Array, "R T"]:
  """Returns buckets: the nearest of all directions and their opposites."""
  near = jnp.einsum("th,rhp->rtp", x, directions.astype(x.dtype))
  return jnp.argmax(jnp.concatenate([near, -near], axis=-1), axis=-1)


def lsh_attention(
  query: Float[Array, "B T N H"],
  value: Float[Array, "B T N H"],
  directions: Float[Array, "R H P"],
  *,
  chunk_size: int,
  mask: Bool[Array, "B T"] | None = None,
  causal: bool = False,
  dropout_rate: float = 0.0,
  dropout_key: Array | None = None,
) -> Float[Array, "B T N H"]:
  """Returns attention within buckets.

  Args:
    query: also the keys.
    value: of all tokens.
    directions: of each round, a half of its buckets; with none there is one
      bucket.
    chunk_size: `L`.
    mask: true for keys that may be seen; who sees none gets zeros.
    causal: query `t` sees the keys `0 ... t`.
    dropout_rate: of the weights.
    dropout_key: draws which; none are dropped if None.
  """
  length, heads = query.shape[1:3]
  rounds, _, half = directions.shape
  size = min(chunk_size, length)
  rest = -length % size

  def one_head(b, n, q, v):
    buckets = jnp.zeros((rounds, length), jnp.int32)
    if half:
      buckets = hashed(q, directions).astype(jnp.int32)
    real = jnp.ones(length, bool) if mask is None else mask[b]
    # Padding has a bucket of its own, behind all others.
    buckets = jnp.where(real, buckets, 2 * half + 1)

    @jax.checkpoint
    def one_round(turn):
      bucket = jnp.pad(buckets[turn], (0, rest), constant_values=2 * half + 1)
      order = jnp.argsort(bucket, stable=True)
      bucket = bucket[order].reshape(-1, size)
      place = order.reshape(-1, size)
      inside = jnp.minimum(place, length - 1)
      visible = (place < length) & real[inside]
      sorted_q, sorted_v = q[inside], v[inside]

      def with_before(x, none):
        # Before the first chunk there is nothing to be seen.
        before = jnp.concatenate([jnp.full_like(x[:1], none), x[:-1]])
        return jnp.concatenate([before, x], axis=1)

      keys = with_before(unit(sorted_q), 0)
      values = with_before(sorted_v, 0)
      seen = with_before(visible, False)[:, None]
      columns, rows = with_before(place, -1)[:, None], place[..., None]
      seen &= with_before(bucket, -1)[:, None] == bucket[..., None]
      if causal:
        back = size + jnp.arange(size)[:, None] - jnp.arange(2 * size)
        seen &= (columns <= rows) & (back < size)
      bias = jnp.where(seen, jnp.where(rows == columns, _ITSELF, 0), UNSEEN)
      drawn = None
      if dropout_key is not None:
        drawn = (b * heads + n) * rounds + turn
        drawn = jax.random.fold_in(dropout_key, drawn)
      out, total = weigh(
        *(sorted_q, keys, values, bias),
        dropout_rate=dropout_rate,
        dropout_key=drawn,
      )
      slots = jnp.argsort(order)[:length]
      return out.reshape(-1, q.shape[-1])[slots], total.reshape(-1)[slots]

    outs, totals = jax.lax.map(one_round, jnp.arange(rounds))
    shares = nnx.softmax(totals, axis=0)[..., None].astype(outs.dtype)
    return (outs * shares).sum(0)

  return each_head(one_head, query, query, value).swapaxes(1, 2)


class ReformerAttention(SoftmaxMixer):
  """A token sees those of its bucket that are near in the sorted order.

  Args:
    features: `C`.
    num_heads: `N`.
    chunk_size: `L`.
    num_buckets: `P`, even, or 1.
    num_rounds: `R`.
    rngs: draws the initial kernels, the directions, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  supports = Supports()
  _parts = ("query", "value")

  def __init__(
    self,
    features: int,
    num_heads: int,
    chunk_size: int,
    num_buckets: int,
    *,
    num_rounds: int = 2,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    if num_buckets != 1 and num_buckets % 2:
      raise ValueError(f"num_buckets: {num_buckets} is odd, and not 1")
    self.chunk_size = chunk_size
    shape = (num_rounds, self.head_dim, num_buckets // 2)
    self.directions = Drawn(jax.random.normal(rngs.params(), shape))

  def mix(self, x, context, mask, causal):
    query, value = self.turn(self.project(x, x))
    (value,) = self.for_all_heads(value)
    mixed = lsh_attention(
      *(query, value, self.directions[...]),
      chunk_size=self.chunk_size,
      mask=mask,
      causal=causal,
      **self.dropout(),
    )
    return self.out(mixed.reshape(*x.shape[:2], -1))

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    shape = (batch_size, self.num_heads, max_length, self.head_dim)
    dtype = self.dtype or self.out.kernel.dtype
    rounds = self.directions.shape[0]
    return {
      "query": jnp.zeros(shape, dtype),
      "value": jnp.zeros(shape, dtype),
      # No bucket has the number -1.
      "bucket": jnp.full((*shape[:2], rounds, max_length), -1, jnp.int32),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position, directions = state["position"], self.directions[...]
    heads = self.project(x[:, None], x[:, None])
    query, value = self.turn(heads, position)
    (value,) = self.for_all_heads(value)
    bucket = jnp.zeros((*query.shape[:1], self.num_heads, len(directions), 1))
    if directions.shape[-1]:
      bucket = jax.vmap(jax.vmap(lambda q: hashed(q, directions)))(
        query.swapaxes(1, 2)
      )
    cached = {
      name: jax.lax.dynamic_update_slice_in_dim(
        state[name], new.astype(state[name].dtype), position, axis
      )
      for name, new, axis in (
        ("query", query.swapaxes(1, 2), 2),
        ("value", value.swapaxes(1, 2), 2),
        ("bucket", bucket, 3),
      )
    }
    near = cached["bucket"] == bucket.astype(jnp.int32)
    # How many of the bucket came since, with the token itself.
    since = jnp.cumsum(near[..., ::-1], axis=-1)[..., ::-1]
    bias = hide(near & (since <= self.chunk_size))
    bias = bias.at[..., position].set(_ITSELF)[..., None, :]

    def for_rounds(x):
      return jnp.repeat(x[:, :, None], len(directions), axis=2)

    outs, totals = weigh(
      for_rounds(query.swapaxes(1, 2)),
      for_rounds(unit(cached["query"])),
      for_rounds(cached["value"]),
      bias,
    )
    shares = nnx.softmax(totals, axis=2)[..., None].astype(outs.dtype)
    mixed = (outs * shares).sum(2)
    out = self.out(mixed.reshape(len(x), -1))
    return out, {**cached, "position": position + 1}
