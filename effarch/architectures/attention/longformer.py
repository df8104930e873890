"""Attention to a window, with global tokens that see and are seen by all.

Longformer (arXiv:2004.05150); the first tokens are the global ones, and share
the projections of the others.

Axes as in `full`; `W` tokens to each side, `G` global tokens, blocks of
`L = max(W, 16)` queries.
Parameters: `2 C N H + 2 C K H`.
MACs: those of the projections, `2 T (G + L + 2 W) N H` with `T` rounded up to
blocks, and `2 G T N H`; causal `2 T (G + L + W) N H` in place of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from effarch.architectures.attention.columns import attend_columns
from effarch.architectures.attention.full import attention
from effarch.architectures.attention.heads import CachedMixer
from effarch.architectures.attention.mixer import Supports
from effarch.architectures.attention.sliding_window import window_columns


class LongformerAttention(CachedMixer):
  """A token sees a window around it, and the global tokens; these see all.

  Args:
    features: `C`.
    num_heads: `N`.
    window: `W`, to each side; causal to one.
    num_global: `G`, at the beginning of a sequence.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `CachedMixer`.
  """

  supports = Supports()

  def __init__(
    self,
    features: int,
    num_heads: int,
    window: int,
    num_global: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.window, self.num_global = window, num_global

  def sees(self, row, column):
    some = (row < self.num_global) | (column < self.num_global)
    return some | (abs(row - column) <= self.window)

  def attend(self, query, key, value, mask, causal):
    length, some = query.shape[1], self.num_global
    near, size = window_columns(length, self.window, causal)
    near = np.where(near < some, -1, near)
    shared = np.tile(np.arange(some), (len(near), 1))
    options = {"mask": mask, "slopes": self.slopes, **self.dropout()}
    out = attend_columns(
      *(query, key, value, np.concatenate([shared, near], axis=1), self.sees),
      **{"block_size": size, "causal": causal, **options},
    )
    if causal or not some:
      return out
    first = attention(query[:, :some], key, value, **options)
    return out.at[:, :some].set(first)
