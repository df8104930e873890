"""Exact attention: every token sees all, in memory that grows with `T`.

Scaled dot-product attention (arXiv:1706.03762). On GPUs and TPUs the
platform's flash kernel is called where it can do what is asked for; all else
goes through rows of scores, `CHUNK` queries at a time, and the backward pass
computes the scores again (FlashAttention, arXiv:2205.14135), by chunks of keys.

Axes: `B` batch, `T` queries, `S` keys, `N` heads, `K` key-value heads, `H` key
and `D` value size, `C` channels.
Parameters: `2 C N H + 2 C K H`.
MACs: `2 T C N H + 2 S C K H + 2 T S N H`; where causal and `T >= 4 CHUNK`, of
the last term 10/16.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from effarch.architectures.attention.heads import CachedMixer
from effarch.architectures.attention.mixer import Supports
from effarch.architectures.attention.softmax import (
  UNSEEN,
  alibi,
  each_head,
  hide,
  product,
  scan_chunks,
  weigh,
)

CHUNK = 512
# Causal queries see the keys up to the end of their own stage.
_STAGES = 4


def attention(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B S K H"],
  value: Float[Array, "B S K D"],
  *,
  mask: Bool[Array, "B S"] | None = None,
  causal: bool = False,
  slopes: Float[Array, " N"] | None = None,
  dropout_rate: float = 0.0,
  dropout_key: Array | None = None,
) -> Float[Array, "B T N D"]:
  """Returns exact attention.

  Args:
    query: of the tokens that see.
    key: of the tokens that are seen; `K` divides `N`.
    value: of the tokens that are seen.
    mask: true for keys that may be seen; who sees none gets zeros.
    causal: query `t` sees the keys `0 ... t`.
    slopes: of a bias that falls with distance (ALiBi), one a head; constants.
    dropout_rate: of the weights.
    dropout_key: draws which; none are dropped if None.
  """
  if slopes is not None:
    slopes = lax.stop_gradient(slopes)
  if mask is None and slopes is None and dropout_key is None:
    kernel = _flash_kernel(query, key, value)
    if kernel is not None:
      return kernel(query, key, value, causal)
  if dropout_key is None:
    return _exact(query, key, value, mask, slopes, causal)
  return _forward(
    *(query, key, value, mask, slopes, causal), dropout_rate, dropout_key
  )[0]


def _flash_kernel(query, key, value):
  """Returns the platform's own kernel if it takes these, or None."""
  head_dim, platform = query.shape[-1], jax.default_backend()
  if value.shape[-1] != head_dim:
    return None
  if platform == "gpu":
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    recent = float(jax.devices()[0].compute_capability) >= 8
    fits = head_dim % 8 == 0 and head_dim <= 128
    return _cudnn if half and recent and fits else None
  tiles = query.shape[1] % 128 == key.shape[1] % 128 == 0
  if platform == "tpu" and tiles and query.dtype != jnp.float64:
    return _pallas_tpu
  return None


def _cudnn(query, key, value, causal):
  return jax.nn.dot_product_attention(
    query, key, value, is_causal=causal, implementation="cudnn"
  )


def _pallas_tpu(query, key, value, causal):
  from jax.experimental.pallas.ops.tpu import flash_attention as tpu

  groups = query.shape[2] // key.shape[2]
  key, value = (jnp.repeat(x, groups, axis=2) for x in (key, value))
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
  scale = query.shape[-1] ** -0.5
  out = tpu.flash_attention(query, key, value, causal=causal, sm_scale=scale)
  return out.swapaxes(1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _exact(query, key, value, mask, slopes, causal):
  return _forward(query, key, value, mask, slopes, causal)[0]


def _forward(query, key, value, mask, slopes, causal, rate=0.0, rng=None):
  """Returns the outputs `B T N D`, and the log-sums of weights `B N T`."""

  def one_head(b, n, q, k, v):
    bias = _bias(b, n, mask, slopes, causal)
    outs = []
    for start, stop in _spans(len(q), causal and len(q) == len(k)):
      end = stop if causal and len(q) == len(k) else len(k)

      def rows(_, chunk, end=end):
        q, t = chunk
        drawn = None
        if rng is not None:
          head = jax.random.fold_in(rng, b * query.shape[2] + n)
          drawn = jax.random.fold_in(head, t[0])
        here = bias(t, jnp.arange(end))
        return None, weigh(
          q, k[:end], v[:end], here, dropout_rate=rate, dropout_key=drawn
        )

      if rng is not None:
        # The weights are drawn again in the backward pass.
        rows = jax.checkpoint(rows)
      chunks = q[start:stop], jnp.arange(start, stop)
      outs.append(scan_chunks(rows, None, chunks, CHUNK)[1])
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)

  out, log_sums = each_head(one_head, query, query, key, value)
  return out.transpose(0, 2, 1, 3), log_sums


def _exact_forward(query, key, value, mask, slopes, causal):
  out, log_sums = _forward(query, key, value, mask, slopes, causal)
  return out, (query, key, value, mask, slopes, out, log_sums)


def _exact_backward(causal, kept, gradient):
  query, key, value, mask, slopes, out, log_sums = kept
  scale = query.shape[-1] ** -0.5
  # What a softmax's gradient subtracts from that of its weights.
  wide = log_sums.dtype
  common = jnp.einsum(
    "btnd,btnd->bnt", out, gradient, preferred_element_type=wide
  )

  def one_head(b, n, q, k, v, g):
    log_sum, shared = log_sums[b, n], common[b, n]
    bias = _bias(b, n, mask, slopes, causal)
    q = (q * scale).astype(q.dtype)
    # Products of few columns are several times faster on the CPU if the large
    # matrix is not the one transposed, so that of queries is summed as H T.
    queries = jnp.zeros(q.T.shape, wide)
    parts = []
    for start, stop in _spans(len(k), causal and len(q) == len(k)):
      begin = start if causal and len(q) == len(k) else 0

      def columns(queries, chunk, begin=begin):
        k, v, s = chunk
        scores = product(k, q[begin:].T)
        here = bias(jnp.arange(begin, len(q)), s)
        if here is not None:
          scores = scores + here.T
        weights = jnp.exp(scores - log_sum[begin:])
        if here is not None:
          weights = jnp.where(scores > UNSEEN / 2, weights, 0)
        change = weights * (product(v, g[begin:].T) - shared[begin:])
        change = change.astype(k.dtype)
        queries = queries.at[:, begin:].add(product(k.T, change))
        values = product(weights.astype(g.dtype), g[begin:])
        return queries, (product(change, q[begin:]), values)

      chunks = k[start:stop], v[start:stop], jnp.arange(start, stop)
      queries, found = scan_chunks(columns, queries, chunks, CHUNK)
      parts.append(found)
    keys, values = jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
    return (queries.T * scale).astype(q.dtype), keys, values

  queries, keys, values = (
    x.transpose(0, 2, 1, 3)
    for x in each_head(one_head, query, query, key, value, gradient)
  )

  def shared_heads(x, like):
    batch, tokens, heads, size = like.shape
    return x.reshape(batch, tokens, heads, -1, size).sum(3).astype(like.dtype)

  return (
    *(queries, shared_heads(keys, key), shared_heads(values, value)),
    *(None, None if slopes is None else jnp.zeros_like(slopes)),
  )


_exact.defvjp(_exact_forward, _exact_backward)


def _bias(b, n, mask, slopes, causal):
  """Returns what gives the bias `T S` of rows and columns, or None."""

  def bias(rows, columns):
    parts = []
    if mask is not None:
      parts.append(hide(mask[b][columns])[None])
    if causal:
      parts.append(hide(rows[:, None] >= columns))
    if slopes is not None:
      parts.append(alibi(slopes[n], rows, columns))
    return functools.reduce(jnp.add, parts) if parts else None

  return bias


def _spans(length: int, causal: bool) -> list[tuple[int, int]]:
  stages = _STAGES if causal and length >= _STAGES * CHUNK else 1
  edges = [length * i // stages for i in range(stages + 1)]
  return list(itertools.pairwise(edges))


class FullAttention(CachedMixer):
  """Exact attention; with fewer key-value heads, grouped-query attention."""

  supports = Supports(cross=True, growth=2.0)

  def attend(self, query, key, value, mask, causal):
    return attention(
      *(query, key, value),
      mask=mask,
      causal=causal,
      slopes=self.slopes,
      **self.dropout(),
    )
