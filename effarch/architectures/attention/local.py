"""Attention within blocks that lie side by side.

Local attention as Long Range Arena (arXiv:2011.04006) compares it, blockwise
in Image Transformer (arXiv:1802.05751).

Axes as in `full`, `L` tokens a block.
Parameters: `2 C N H + 2 C K H`.
MACs: those of the projections, and `2 T L N H` with `T` rounded up to blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from effarch.architectures.attention.columns import attend_columns
from effarch.architectures.attention.heads import CachedMixer
from effarch.architectures.attention.mixer import Supports


class LocalAttention(CachedMixer):
  """A token sees its own block; a stream keeps that alone.

  Args:
    features: `C`.
    num_heads: `N`.
    block_size: `L`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `CachedMixer`.
  """

  supports = Supports(constant_state=True)

  def __init__(
    self,
    features: int,
    num_heads: int,
    block_size: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.block_size = block_size

  @property
  def reach(self):
    return self.block_size

  def sees(self, row, column):
    return row // self.block_size == column // self.block_size

  def attend(self, query, key, value, mask, causal):
    length = query.shape[1]
    size = min(self.block_size, length)
    blocks = -(-length // size)
    return attend_columns(
      *(query, key, value, np.arange(blocks * size).reshape(blocks, size)),
      self.sees,
      block_size=size,
      mask=mask,
      causal=causal,
      **{"slopes": self.slopes, **self.dropout()},
    )
