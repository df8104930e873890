"""Softmax attention of blocks of queries, each to columns of its own.

What the sparse mechanisms with fixed patterns share: a table of the keys that
each block of queries may see, and a rule for single tokens within it.

Axes: `B` batch, `T` tokens, `N` heads, `K` key-value heads, `H` head size, `Q`
blocks of queries, `L` queries a block, `E` columns of a block.
MACs: `2 Q L E N H`, and without them the weights' share of memory is `T E`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from effarch.architectures.attention.softmax import (
  alibi,
  each_head,
  hide,
  scan_chunks,
  weigh,
)

# Blocks of queries in one step of the loop, where heads go in turns.
_BLOCKS = 16


def attend_columns(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B T K H"],
  value: Float[Array, "B T K H"],
  columns: Int[np.ndarray, "Q E"],
  sees: Callable[[Array, Array], Array],
  *,
  block_size: int,
  mask: Bool[Array, "B T"] | None = None,
  causal: bool = False,
  slopes: Float[Array, " N"] | None = None,
  dropout_rate: float = 0.0,
  dropout_key: Array | None = None,
) -> Float[Array, "B T N H"]:
  """Returns attention to the columns that the rule lets be seen.

  Args:
    query: of all tokens.
    key: of all tokens; `K` divides `N`.
    value: of all tokens.
    columns: keys of each block, none of them twice; those out of `[0, T)` are
      not seen.
    sees: from places of queries and of keys to whether they may be seen.
    block_size: `L`; the last block may hold fewer.
    mask: true for keys that may be seen; who sees none gets zeros.
    causal: query `t` sees the keys `0 ... t`.
    slopes: of a bias that falls with distance (ALiBi), one a head.
    dropout_rate: of the weights.
    dropout_key: draws which; none are dropped if None.
  """
  length, heads = query.shape[1:3]
  inside = (columns >= 0) & (columns < length)
  used = inside.any(0)
  columns = np.where(inside, columns, -1)[:, used]
  blocks = len(columns)
  table = jnp.asarray(columns), jnp.arange(blocks)
  padding = ((0, 0), (0, blocks * block_size - length), (0, 0), (0, 0))
  query = jnp.pad(query, padding)

  def one_head(b, n, q, k, v):
    @jax.checkpoint
    def some_blocks(_, chunk):
      q, seen, block = chunk
      drawn = None
      if dropout_key is not None:
        place = (b * heads + n) * blocks + block[0]
        drawn = jax.random.fold_in(dropout_key, place)

      def bias_of(seen, block):
        row = block * block_size + jnp.arange(block_size)
        visible = sees(row[:, None], seen) & (seen >= 0)
        if causal:
          visible &= seen <= row[:, None]
        if mask is not None:
          visible &= mask[b][seen]
        bias = hide(visible)
        if slopes is not None:
          bias = bias + alibi(slopes[n], row, seen)
        return bias

      bias = jax.vmap(bias_of)(seen, block)
      out, _ = weigh(
        *(q, k[seen], v[seen], bias),
        dropout_rate=dropout_rate,
        dropout_key=drawn,
      )
      return None, out

    chunks = q.reshape(blocks, block_size, -1), *table
    return scan_chunks(some_blocks, None, chunks, _BLOCKS)[1]

  out = each_head(one_head, query, query, key, value)
  out = out.reshape(*out.shape[:2], blocks * block_size, -1)
  return out.transpose(0, 2, 1, 3)[:, :length]
