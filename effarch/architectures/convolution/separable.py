"""Depthwise-separable convolution: filter each channel, then mix channels.

MobileNets (arXiv:1704.04861); no activation in between, as in Xception
(arXiv:1610.02357).

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels,
`K L` kernel height and width.
Parameters: `K L C + C F + F`. MACs an output pixel: `K L C + C F`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from jaxtyping import Array, Float


def separable_conv(
  x: Float[Array, "B H W C"],
  depthwise_kernel: Float[Array, "K L 1 C"],
  pointwise_kernel: Float[Array, "C F"],
  bias: Float[Array, " F"] | None = None,
  *,
  strides: tuple[int, int] = (1, 1),
  padding: str = "SAME",
) -> Float[Array, "B H2 W2 F"]:
  """Returns the convolution; `padding` is `"SAME"` or `"VALID"`."""
  x = jax.lax.conv_general_dilated(
    x,
    depthwise_kernel,
    window_strides=strides,
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )
  x = x @ pointwise_kernel
  return x if bias is None else x + bias


class SeparableConv(nnx.Module):
  """A drop-in for `nnx.Conv` with about `1/F + 1/(K L)` of its MACs.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: `(K, L)`.
    strides: one step for each of height and width.
    padding: `"SAME"` or `"VALID"`.
    use_bias: adds `F` learned offsets after the mixing.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    # A depthwise filter sees K L inputs: "fan in" over its own channel only.
    depthwise = nnx.initializers.variance_scaling(
      1.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=3
    )
    mixing = nnx.initializers.lecun_normal()
    self.depthwise_kernel = nnx.Param(
      depthwise(rngs.params(), (*kernel_size, 1, in_features), param_dtype)
    )
    self.pointwise_kernel = nnx.Param(
      mixing(rngs.params(), (in_features, out_features), param_dtype)
    )
    self.bias = nnx.data(
      nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else None
    )
    self.strides = strides
    self.padding = padding
    self.dtype = dtype

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    x, depthwise, mixing, bias = dtypes.promote_dtype(
      (
        x,
        self.depthwise_kernel[...],
        self.pointwise_kernel[...],
        None if self.bias is None else self.bias[...],
      ),
      dtype=self.dtype,
    )
    return separable_conv(
      x, depthwise, mixing, bias, strides=self.strides, padding=self.padding
    )
