"""Convolution with a filter as long as the sequence, by Fourier transforms.

Axes: `B` batch, `T` tokens, `C` channels.
FLOPs grow as `T log T`; there are no MACs of a product.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def long_convolution(
  x: Float[Array, "B T C"], kernel: Float[Array, "T C"]
) -> Float[Array, "B T C"]:
  """Returns `y_t = sum_s kernel_s x_{t-s}`, computed in float32 at least."""
  wide = jnp.promote_types(x.dtype, jnp.float32)
  length = x.shape[1]
  # As long as both together, so that the end does not meet the beginning.
  size = 2 * length
  signal = jnp.fft.rfft(x.astype(wide), size, axis=1)
  response = jnp.fft.rfft(kernel.astype(wide), size, axis=0)
  out = jnp.fft.irfft(signal * response, size, axis=1)[:, :length]
  return out.astype(x.dtype)
