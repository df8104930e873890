"""Attention to the tokens within a window around each.

Longformer (arXiv:2004.05150) without its global tokens.

Axes as in `full`; `W` tokens to each side, blocks of `L = max(W, 16)` queries.
Parameters: `2 C N H + 2 C K H`.
MACs: those of the projections, and `2 T (L + 2 W) N H`, of which causal
`2 T (L + W) N H`, with `T` rounded up to blocks; less if `T < L + 2 W`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from effarch.architectures.attention.columns import attend_columns
from effarch.architectures.attention.heads import CachedMixer
from effarch.architectures.attention.mixer import Supports


def window_columns(length: int, window: int, causal: bool):
  """Returns the columns of blocks of queries, `Q E`, and the block size."""
  size = min(max(window, 16), length)
  starts = np.arange(0, length, size)
  ahead = 0 if causal else window
  return starts[:, None] + np.arange(-window, size + ahead), size


class SlidingWindowAttention(CachedMixer):
  """A token sees those at most `window` away; a stream keeps them alone.

  Args:
    features: `C`.
    num_heads: `N`.
    window: `W`, to each side; causal to one.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `CachedMixer`.
  """

  supports = Supports(constant_state=True)

  def __init__(
    self,
    features: int,
    num_heads: int,
    window: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.window = window

  @property
  def reach(self):
    return self.window + 1

  def sees(self, row, column):
    return abs(row - column) <= self.window

  def attend(self, query, key, value, mask, causal):
    columns, size = window_columns(query.shape[1], self.window, causal)
    return attend_columns(
      *(query, key, value, columns, self.sees),
      block_size=size,
      mask=mask,
      causal=causal,
      **{"slopes": self.slopes, **self.dropout()},
    )
