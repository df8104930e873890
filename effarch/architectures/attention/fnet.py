"""Fourier transforms over tokens and channels, and nothing to train.

FNet (arXiv:2105.03824): the real part of the two-dimensional transform.

Axes: `B` batch, `T` tokens, `C` channels.
Parameters: none. MACs: none; FLOPs grow as `T log T`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx

from effarch.architectures.attention.mixer import Mixer, Supports


class FNet(Mixer):
  """Mixes by a Fourier transform.

  Args:
    features: `C`.
    dtype: of the output; the input's own if None.
    rngs: draws nothing.
  """

  supports = Supports(causal=False, streaming=False)

  def __init__(self, features: int, *, dtype: Any = None, rngs: nnx.Rngs):
    self.dtype = dtype

  def mix(self, x, context, mask, causal):
    dtype = self.dtype or x.dtype
    if mask is not None:
      x = jnp.where(mask[:, :, None], x, 0)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.fft.fft2(x, axes=(1, 2)).real.astype(dtype)
