"""Depthwise convolution: filters that each see one channel.

MobileNets (arXiv:1704.04861) made networks of it; `multiplier` is TensorFlow's
`depth_multiplier`.

Axes: `B` batch, `*S` one or two spatial axes, `C` channels, `M` filters a
channel, `*K` the kernel's spatial axes, `*O` output lengths.
Parameters: `K C M`, and `C M` with bias. MACs an output place: `K C M`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv import Conv, conv
from effarch.architectures.convolution.window import Padding, Sizes


def depthwise_conv(
  x: Float[Array, "B *S C"],
  kernel: Float[Array, "*K"],
  *,
  strides: Sizes = 1,
  padding: Padding = "SAME",
  dilation: Sizes = 1,
) -> Float[Array, "B *O F"]:
  """Returns each channel filtered by its own `M` of a kernel of `*K 1 C*M`.

  The outputs of one channel lie side by side. For the arguments and errors see
  `conv`.
  """
  return conv(
    x,
    kernel,
    strides=strides,
    padding=padding,
    dilation=dilation,
    groups=x.shape[-1],
  )


class DepthwiseConv(Conv):
  """Filters each channel by itself.

  Args:
    features: `C`.
    kernel_size: `*K`.
    multiplier: `M`.
    strides: steps from one output to the next.
    padding: see `conv`.
    dilation: steps from one tap to the next.
    use_bias: adds `C M` learned offsets.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernel.
  """

  def __init__(
    self,
    features: int,
    kernel_size: Sequence[int],
    *,
    multiplier: int = 1,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      features,
      features * multiplier,
      kernel_size,
      strides=strides,
      padding=padding,
      dilation=dilation,
      groups=features,
      use_bias=use_bias,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
