"""Attention to the own block, and to a summary of all others.

The fixed pattern of Sparse Transformer (arXiv:1904.10509): the last `c` tokens
of each block are seen by all. Heads see both parts at once.

Axes as in `full`, `L` tokens a block.
Parameters: `2 C N H + 2 C K H`.
MACs: those of the projections, and `2 T (L + c T / L) N H` with `T` rounded up
to blocks: `T sqrt(T)` if `L` grows as `sqrt(T)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from effarch.architectures.attention.columns import attend_columns
from effarch.architectures.attention.heads import CachedMixer
from effarch.architectures.attention.mixer import Supports


class BlockSparseAttention(CachedMixer):
  """A token sees its block, and the last tokens of the others.

  Args:
    features: `C`.
    num_heads: `N`.
    block_size: `L`, the paper's stride.
    num_summary: `c`, the tokens of a block that all see, up to `L`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `CachedMixer`.
  """

  supports = Supports(growth=1.5)

  def __init__(
    self,
    features: int,
    num_heads: int,
    block_size: int,
    num_summary: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    if not 0 < num_summary <= block_size:
      raise ValueError(
        f"num_summary: {num_summary} is not in (0, {block_size}]"
      )
    self.block_size, self.num_summary = block_size, num_summary

  def sees(self, row, column):
    size = self.block_size
    summary = column % size >= size - self.num_summary
    return summary | (row // size == column // size)

  def attend(self, query, key, value, mask, causal):
    size = self.block_size
    blocks = -(-query.shape[1] // size)
    own = np.arange(blocks * size).reshape(blocks, size)
    summary = np.tile(own[:, -self.num_summary :].reshape(-1), (blocks, 1))
    summary[summary // size == np.arange(blocks)[:, None]] = -1
    return attend_columns(
      *(query, key, value, np.concatenate([own, summary], axis=1), self.sees),
      block_size=size,
      mask=mask,
      causal=causal,
      **{"slopes": self.slopes, **self.dropout()},
    )
