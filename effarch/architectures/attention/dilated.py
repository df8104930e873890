"""Attention to every `d`-th token within a window around each.

The dilated windows of Longformer (arXiv:2004.05150).

Axes as in `full`; `W` seen tokens to each side, `d` apart.
Parameters: `2 C N H + 2 C K H`.
MACs: those of `sliding_window`, for `d` sequences of `T / d` tokens each.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx

from effarch.architectures.attention.columns import attend_columns
from effarch.architectures.attention.heads import CachedMixer
from effarch.architectures.attention.mixer import Supports
from effarch.architectures.attention.sliding_window import window_columns


class DilatedAttention(CachedMixer):
  """A token sees `window` tokens to each side, `dilation` apart.

  Args:
    features: `C`.
    num_heads: `N`.
    window: `W`, to each side; causal to one.
    dilation: `d`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `CachedMixer`.
  """

  supports = Supports(constant_state=True)

  def __init__(
    self,
    features: int,
    num_heads: int,
    window: int,
    dilation: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.window, self.dilation = window, dilation

  @property
  def reach(self):
    return self.window * self.dilation + 1

  def sees(self, row, column):
    near = abs(row - column) <= self.window * self.dilation
    return near & ((row - column) % self.dilation == 0)

  def attend(self, query, key, value, mask, causal):
    batch, length = query.shape[:2]
    if mask is None:
      mask = jnp.ones((batch, length), bool)
    # Tokens that see each other become one sequence of their own.
    apart = self.dilation
    steps = -(-length // apart)

    def split(x):
      rest = [(0, 0)] * (x.ndim - 2)
      x = jnp.pad(x, ((0, 0), (0, steps * apart - length), *rest))
      x = x.reshape(batch, steps, apart, *x.shape[2:]).swapaxes(1, 2)
      return x.reshape(batch * apart, steps, *x.shape[3:])

    columns, size = window_columns(steps, self.window, causal)
    out = attend_columns(
      *(split(query), split(key), split(value), columns),
      lambda row, column: abs(row - column) <= self.window,
      block_size=size,
      mask=split(mask),
      causal=causal,
      slopes=None if self.slopes is None else self.slopes * apart,
      **self.dropout(),
    )
    out = out.reshape(batch, apart, steps, *out.shape[2:]).swapaxes(1, 2)
    return out.reshape(batch, -1, *out.shape[3:])[:, :length]
