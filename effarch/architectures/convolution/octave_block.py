"""Two octave convolutions that stand where a convolution stands.

The first (arXiv:1904.05049, section 3.2) makes low frequencies of what comes,
and the last takes them back, so that there is one array before and behind.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `Z` the ratio of low channels between the two.
Parameters: `K C F + K F^2 + 4 F`. MACs an output place, of images that are
filled up: `(K C F + K F^2) (1 - 3 Z / 4)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.octave import OctaveConv, even
from effarch.architectures.convolution.window import Sizes


class OctaveBlock(nnx.Module):
  """Splits frequencies and merges them, with a convolution each.

  Images are filled up to multiples of 2, or of 4 with strides of 2, by
  repeating the last row and column; outputs are cropped.

  Args:
    in_features: `C`.
    out_features: `F`, also between the two.
    kernel_size: two sizes.
    strides: 1 or 2, of the first.
    ratio: `Z`, in [0, 1).
    activation: a key of `ACTIVATIONS`, after both.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int] = (3, 3),
    *,
    strides: Sizes = 1,
    ratio: float = 0.5,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    common = {
      "activation": activation,
      "dtype": dtype,
      "param_dtype": param_dtype,
      "rngs": rngs,
    }
    self.first = OctaveConv(
      *(in_features, out_features, kernel_size),
      strides=strides,
      ratio_in=0.0,
      ratio_out=ratio,
      **common,
    )
    self.last = OctaveConv(
      *(out_features, out_features, kernel_size),
      ratio_in=ratio,
      ratio_out=0.0,
      **common,
    )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    stride = self.first.stride
    height, width = (-(-length // stride) for length in x.shape[1:3])
    out, _ = self.last(self.first((even(x, 2 * stride), None)))
    return out[:, :height, :width]
