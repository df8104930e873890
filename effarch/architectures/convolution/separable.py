"""Depthwise-separable convolution: filter each channel, then mix channels.

MobileNets (arXiv:1704.04861); no activation in between, as in Xception
(arXiv:1610.02357).

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels,
`K L` kernel height and width.
Parameters: `K L C + C F + F`. MACs an output pixel: `K L C + C F`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv import Conv
from effarch.architectures.convolution.depthwise import DepthwiseConv
from effarch.architectures.convolution.window import Padding, Sizes


class SeparableConv(nnx.Module):
  """A drop-in for `Conv` with about `1/F + 1/(K L)` of its MACs.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: `(K, L)`.
    strides: one step for each of height and width.
    padding: see `conv`.
    use_bias: adds `F` learned offsets after the mixing.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int],
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.depthwise = DepthwiseConv(
      in_features,
      kernel_size,
      strides=strides,
      padding=padding,
      use_bias=False,
      **common,
    )
    self.pointwise = Conv(
      in_features, out_features, (1, 1), use_bias=use_bias, **common
    )

  def scale_outputs(self, scale: Float[Array, " F"]) -> None:
    """Changes the layer to one that has outputs times so much."""
    self.pointwise.scale_outputs(scale)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    return self.pointwise(self.depthwise(x))
