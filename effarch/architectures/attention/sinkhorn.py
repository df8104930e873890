"""Attention to the own block, and to one that a learned sorting brings.

Sparse Sinkhorn attention (arXiv:2002.11296): blocks are permuted by a doubly
stochastic matrix, the iterated normalisation of how well pooled queries and
keys of blocks fit. No Gumbel noise is added.

Axes as in `full`; `L` tokens a block, `Q = T / L` blocks, rounded up.
Parameters: `2 C N H + 2 C K H`.
MACs: those of the projections, `4 T L N H` with `T` rounded up to blocks, and
to sort `(Q^2 + 2 Q T) N H + Q T N`: `T sqrt(T)` if `L` grows as `sqrt(T)`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
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
  hide,
  product,
  weigh,
)


def sinkhorn(
  scores: Float[Array, "*batch Q Q"],
  real: Bool[Array, "*#batch Q"],
  iterations: int,
) -> Float[Array, "*batch Q Q"]:
  """Returns `exp(scores)` with rows and columns that sum to one.

  Args:
    scores: in the logarithm.
    real: blocks that take part; rows and columns of the others are zero.
    iterations: of dividing by the sums of rows, then of columns.
  """
  both = real[..., :, None] & real[..., None, :]

  def divide(_, scores):
    for axis in (-1, -2):
      total = jax.nn.logsumexp(scores, axis=axis, keepdims=True)
      scores = jnp.where(both, scores - total, UNSEEN)
    return scores

  scores = jnp.where(both, scores, UNSEEN)
  scores = jax.lax.fori_loop(0, iterations, divide, scores)
  return jnp.where(both, jnp.exp(scores), 0)


def sinkhorn_attention(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B T N H"],
  value: Float[Array, "B T N H"],
  *,
  block_size: int,
  iterations: int,
  temperature: float,
  mask: Bool[Array, "B T"] | None = None,
  **dropout: Any,
) -> Float[Array, "B T N H"]:
  """Returns attention of blocks to themselves and to what is sorted to them."""
  batch, length, _, size = query.shape
  real = real_tokens(mask, batch, length, block_size)
  seen = real[:, None, :, :, None]
  q, k, v = (to_blocks(x, block_size) for x in (query, key, value))
  k, v = jnp.where(seen, k, 0), jnp.where(seen, v, 0)
  pooled = jnp.where(seen, q, 0).sum(3), k.sum(3)
  number = jnp.maximum(real.sum(-1), 1)[:, None, :, None]
  means = [(x / number.astype(x.dtype)) for x in pooled]
  scores = product(means[0] * size**-0.5, means[1].mT) / temperature
  sorting = sinkhorn(scores, real.any(-1)[:, None], iterations)

  def sort(x):
    return jnp.einsum("bnqp,bnplh->bnqlh", sorting.astype(x.dtype), x)

  # Where all tokens that are mixed are padding, nothing has come.
  share = jnp.einsum("bnqp,bpl->bnql", sorting, real.astype(sorting.dtype))
  own = jnp.broadcast_to(real[:, None], share.shape)
  bias = hide(jnp.concatenate([own, share > 0], axis=-1))[..., None, :]
  keys = jnp.concatenate([k, sort(k)], axis=3)
  values = jnp.concatenate([v, sort(v)], axis=3)
  return from_blocks(weigh(q, keys, values, bias, **dropout)[0], length)


class SinkhornAttention(SoftmaxMixer):
  """A token sees its block, and a mixture of blocks that fits it.

  Args:
    features: `C`.
    num_heads: `N`.
    block_size: `L`.
    iterations: of the normalisation.
    temperature: a lower one sorts harder.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  supports = Supports(causal=False, streaming=False, growth=1.5)

  def __init__(
    self,
    features: int,
    num_heads: int,
    block_size: int,
    *,
    iterations: int = 5,
    temperature: float = 0.75,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.block_size, self.iterations = block_size, iterations
    self.temperature = temperature

  def attend(self, query, key, value, mask, causal):
    key, value = self.for_all_heads(key, value)
    return sinkhorn_attention(
      *(query, key, value),
      block_size=min(self.block_size, query.shape[1]),
      iterations=self.iterations,
      temperature=self.temperature,
      mask=mask,
      **self.dropout(),
    )
