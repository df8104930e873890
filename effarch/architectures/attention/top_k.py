"""Attention of a block of tokens to the blocks that fit it best.

Bi-level routing attention, BiFormer (arXiv:2303.08810): pooled queries and keys
of blocks route each block to `k` others, in which its tokens attend to all.
Blocks of one token are attention to the `k` best keys (arXiv:2106.06899).

Axes as in `full`; `L` tokens a block, `Q = T / L` blocks, rounded up.
Parameters: `2 C N H + 2 C K H`.
MACs: those of the projections, `Q^2 N H` to route, and `2 T k L N H` with `T`
rounded up to blocks: `T sqrt(T)` if `L` grows as `sqrt(T)`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from effarch.architectures.attention.blocks import (
  from_blocks,
  real_tokens,
  to_blocks,
)
from effarch.architectures.attention.heads import SoftmaxMixer
from effarch.architectures.attention.mixer import Supports
from effarch.architectures.attention.softmax import (
  UNSEEN,
  each_head,
  hide,
  product,
  scan_chunks,
  weigh,
)

# Blocks in one step of the loop.
_BLOCKS = 16


def top_k_attention(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B T N H"],
  value: Float[Array, "B T N H"],
  *,
  block_size: int,
  top_k: int,
  mask: Bool[Array, "B T"] | None = None,
  dropout_rate: float = 0.0,
  dropout_key: Array | None = None,
) -> Float[Array, "B T N H"]:
  """Returns attention of each block to the `top_k` that fit it best."""
  batch, length, heads, size = query.shape
  real = real_tokens(mask, batch, length, block_size)
  number = jnp.maximum(real.sum(-1, keepdims=True), 1)

  def one_head(b, n):
    q, k, v = (x[b, n] for x in cut)
    pooled = [jnp.where(real[b][..., None], x, 0).sum(1) for x in (q, k)]
    means = [x / number[b].astype(x.dtype) for x in pooled]
    fit = product(means[0] * size**-0.5, means[1].T)
    fit = jnp.where(real[b].any(-1), fit, UNSEEN)
    routes = lax.top_k(fit, min(top_k, len(fit)))[1]

    @jax.checkpoint
    def some_blocks(_, chunk):
      q, route, place = chunk
      drawn = None
      if dropout_key is not None:
        drawn = jax.random.fold_in(
          dropout_key, (b * heads + n) * len(fit) + place[0]
        )
      keys, values, seen = (
        x[route].reshape(len(q), -1, *x.shape[2:]) for x in (k, v, real[b])
      )
      out, _ = weigh(
        *(q, keys, values, hide(seen)[:, None]),
        dropout_rate=dropout_rate,
        dropout_key=drawn,
      )
      return None, out

    chunks = q, routes, jnp.arange(len(fit))
    return scan_chunks(some_blocks, None, chunks, _BLOCKS)[1]

  cut = [to_blocks(x, block_size) for x in (query, key, value)]
  return from_blocks(each_head(one_head, query), length)


class TopKAttention(SoftmaxMixer):
  """A token sees the blocks that its own block is routed to.

  Args:
    features: `C`.
    num_heads: `N`.
    block_size: `L`.
    top_k: blocks that each is routed to.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  supports = Supports(causal=False, streaming=False, growth=1.5)

  def __init__(
    self,
    features: int,
    num_heads: int,
    block_size: int,
    top_k: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.block_size, self.top_k = block_size, top_k

  def attend(self, query, key, value, mask, causal):
    key, value = self.for_all_heads(key, value)
    return top_k_attention(
      *(query, key, value),
      block_size=min(self.block_size, query.shape[1]),
      top_k=self.top_k,
      mask=mask,
      **self.dropout(),
    )
