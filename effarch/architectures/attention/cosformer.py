"""Attention with the kernel `relu`, and weights that fall with distance.

cosFormer (arXiv:2202.08791): weights `relu(q) relu(k) cos(pi (t - s) / 2 M)`,
which is a sum of two products.

Axes and MACs as in `kernel`, with `F = 2 H` features; `M` is the greatest
length.
Parameters: `2 C N H + 2 C K H`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx

from effarch.architectures.attention.kernel import KernelMixer
from effarch.architectures.attention.mixer import check_length


class CosFormerAttention(KernelMixer):
  """Attention in time and memory that grow with the length.

  Args:
    features: `C`.
    num_heads: `N`.
    max_length: `M`, of tokens and of a context.
    rngs: draws the initial kernels.
    **arguments: those of `HeadMixer`.
  """

  position_kinds = ("none",)

  def __init__(
    self,
    features: int,
    num_heads: int,
    max_length: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.max_length = max_length

  def features(self, x, positions, is_query):
    check_length(x.shape[1], self.max_length)
    angles = jnp.pi / 2 * positions[:, None, None] / self.max_length
    x = nnx.relu(x)
    waves = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([x * wave.astype(x.dtype) for wave in waves], -1)

  def init_state(self, batch_size, max_length):
    check_length(max_length, self.max_length)
    return super().init_state(batch_size, max_length)
