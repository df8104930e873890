"""Attention to neighbouring, global and random blocks.

BigBird (arXiv:2007.14062), global tokens within the sequence (its ITC): the
first blocks. The random blocks are the same for all heads and calls.

Axes as in `full`; `L` tokens a block, `G` global and `R` random blocks.
Parameters: `2 C N H + 2 C K H`.
MACs: those of the projections, `2 T (3 + G + R) L N H` with `T` rounded up to
blocks, and `2 G L T N H`; less where there are fewer blocks.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int

from effarch.architectures.attention.columns import attend_columns
from effarch.architectures.attention.full import attention
from effarch.architectures.attention.heads import SoftmaxMixer
from effarch.architectures.attention.mixer import Supports


class BigBirdAttention(SoftmaxMixer):
  """A token sees three blocks around it, global blocks, and random ones.

  Args:
    features: `C`.
    num_heads: `N`.
    block_size: `L`.
    num_global: `G` blocks that see and are seen by all, the first.
    num_random: `R` blocks besides.
    seed: draws which.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  supports = Supports(causal=False, streaming=False)
  position_kinds = ("none", "rotary", "alibi")

  def __init__(
    self,
    features: int,
    num_heads: int,
    block_size: int,
    num_global: int,
    num_random: int,
    *,
    seed: int = 0,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.block_size, self.seed = block_size, seed
    self.num_global, self.num_random = num_global, num_random

  def seen_blocks(self, blocks: int) -> Int[np.ndarray, "Q M"]:
    """Returns the blocks that each of so many sees, and -1 for none."""
    table = np.full((blocks, 3 + self.num_global + self.num_random), -1)
    for row in range(blocks):
      generator = np.random.default_rng((self.seed, row))
      fixed = [*range(self.num_global), row - 1, row, row + 1]
      fixed = [b for b in dict.fromkeys(fixed) if 0 <= b < blocks]
      others = np.setdiff1d(np.arange(blocks), fixed)
      drawn = generator.permutation(others)[: self.num_random]
      seen = np.concatenate([fixed, drawn])
      table[row, : len(seen)] = seen
    return table

  def attend(self, query, key, value, mask, causal):
    length, size = query.shape[1], self.block_size
    blocks = self.seen_blocks(-(-length // size))
    columns = blocks[:, :, None] * size + np.arange(size)
    columns = np.where(blocks[:, :, None] < 0, -1, columns)
    options = {"mask": mask, "slopes": self.slopes, **self.dropout()}
    out = attend_columns(
      *(query, key, value, columns.reshape(len(blocks), -1)),
      lambda row, column: jnp.ones_like(row + column, bool),
      **{"block_size": size, **options},
    )
    some = min(self.num_global * size, length)
    if not some:
      return out
    first = attention(query[:, :some], key, value, **options)
    return out.at[:, :some].set(first)
