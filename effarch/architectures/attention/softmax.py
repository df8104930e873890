"""Softmax attention of some queries to some keys, and how to chunk it.

Axes: `T` queries, `S` keys, `H` key and `D` value size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# The score of a key that is not seen. No infinity: it has no differences.
UNSEEN = -1e30
# Scores of all heads that a CPU takes at once; in turns, more are faster.
AT_ONCE = 2**20


def weigh(
  query: Float[Array, "*batch T H"],
  key: Float[Array, "*batch S H"],
  value: Float[Array, "*batch S D"],
  bias: Float[Array, "*#batch #T S"] | None = None,
  *,
  dropout_rate: float = 0.0,
  dropout_key: Array | None = None,
) -> tuple[Float[Array, "*batch T D"], Float[Array, "*batch T"]]:
  """Returns values averaged with weights `softmax(q k / sqrt(H) + bias)`.

  The softmax is taken in float32. A query that sees no key gets zeros.

  Args:
    query: with their own heads and blocks in front, as all.
    key: of the tokens that are seen.
    value: of the tokens that are seen.
    bias: added to scores; `UNSEEN` hides a key.
    dropout_rate: of the weights.
    dropout_key: draws which; none are dropped if None.

  Returns:
    The averages, and the logarithms of what the weights were divided by.
  """
  scores = product(query * query.shape[-1] ** -0.5, key.mT)
  if bias is not None:
    scores = scores + bias
  largest = lax.stop_gradient(scores.max(-1, keepdims=True))
  weights = jnp.exp(scores - largest)
  if bias is not None:
    weights = jnp.where(scores > UNSEEN / 2, weights, 0)
  total = jnp.maximum(weights.sum(-1, keepdims=True), 1e-30)
  if dropout_key is not None:
    weights = drop(weights, dropout_rate, dropout_key)
  out = product(weights.astype(value.dtype), value) / total
  return out.astype(query.dtype), (largest + jnp.log(total))[..., 0]


def product(a: Array, b: Array) -> Array:
  """Returns `a @ b`, summed and left in float32, or in float64."""
  wide = jnp.promote_types(a.dtype, jnp.float32)
  return jnp.matmul(a, b, preferred_element_type=wide)


def drop(x: Array, rate: float, key: Array) -> Array:
  """Zeroes a share `rate` of the numbers, and scales up the others."""
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), 0)


def hide(visible: Bool[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Returns the bias that hides what is not visible."""
  return jnp.where(visible, 0.0, UNSEEN)


def alibi(
  slopes: Float[Array, "*N"], rows: Int[Array, " T"], columns: Int[Array, " S"]
) -> Float[Array, "*N T S"]:
  """Returns the bias of linear distances (ALiBi, arXiv:2108.12409)."""
  return -slopes[..., None, None] * abs(rows[:, None] - columns)


def scan_chunks(
  step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, size: int
) -> tuple[Any, Any]:
  """Scans over chunks of the leading axis, and one shorter chunk at the end.

  Args:
    step: from carry and chunk to carry and what is stacked.
    carry: the first.
    xs: arrays whose leading axes are as long.
    size: of a chunk.

  Returns:
    The last carry, and all outputs with their chunks joined.
  """
  length = len(jax.tree.leaves(xs)[0])
  whole = length // size
  parts = []
  if whole > 1:
    chunks = jax.tree.map(
      lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), xs
    )
    carry, ys = lax.scan(step, carry, chunks)
    parts.append(jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), ys))
  done = whole * size if whole > 1 else 0
  for start in range(done, length, size):
    rest = jax.tree.map(lambda x, at=start: x[at : at + size], xs)
    carry, ys = step(carry, rest)
    parts.append(ys)
  return carry, jax.tree.map(lambda *ys: jnp.concatenate(ys), *parts)


def each_head(
  one_head: Callable[..., Any], like: Float[Array, "B T N H"], *arrays: Array
) -> Any:
  """Calls for each of batch and heads: many in turns on CPUs, else at once.

  Args:
    one_head: from the places in batch and heads, and `T H` of each array, to
      arrays.
    like: has as many.
    *arrays: `B T N H`, or of `K` that heads share.

  Returns:
    The arrays, with `B N` in front.
  """
  batch, length, heads, _ = like.shape
  places = jnp.divmod(jnp.arange(batch * heads), heads)
  scores = batch * heads * length**2
  if jax.default_backend() == "cpu" and scores > AT_ONCE:

    def in_turn(both):
      b, n = both
      return one_head(b, n, *(_of_head(b, n, heads, x) for x in arrays))

    found = lax.map(in_turn, places)
  else:
    each = [jnp.repeat(x, heads // x.shape[2], axis=2) for x in arrays]
    of_batch = jax.vmap(one_head, (None, 0, *(1 for _ in each)))
    return jax.vmap(of_batch, (0, None, *(0 for _ in each)))(
      jnp.arange(batch), jnp.arange(heads), *each
    )
  return jax.tree.map(lambda x: x.reshape(batch, heads, *x.shape[1:]), found)


def _of_head(b: Array, n: Array, heads: int, x: Array) -> Array:
  """Returns `T H` of one head."""
  return lax.dynamic_index_in_dim(x[b], n // (heads // x.shape[2]), 1, False)
