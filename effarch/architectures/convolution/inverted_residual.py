"""Inverted residual: expand, filter each channel, and project.

MobileNetV2's (arXiv:1801.04381): wide between its two 1x1 convolutions, narrow
outside, and no activation behind the last. With squeeze and excitation it is
the MBConv of MnasNet (arXiv:1807.11626) and EfficientNet (arXiv:1905.11946).

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `D = E C` hidden channels, `R` squeezed ones.
Parameters: `C D + 2 D` (none with `E = 1`), `K D + 2 D`, `D F + 2 F`, and
`2 D R + R + D` of squeeze and excitation. MACs: `C D` an input place, `K D + D
F` an output place, `2 D R` an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv_norm import ConvNorm
from effarch.architectures.convolution.same_shape import keeps_shape
from effarch.architectures.convolution.squeeze_excite import SqueezeExcite
from effarch.architectures.convolution.window import Sizes


class InvertedResidual(nnx.Module):
  """Filters many channels between few.

  Args:
    in_features: `C`.
    out_features: `F`; the input is added to the output where it is `C` and
      strides are 1.
    kernel_size: of the filters, two sizes.
    strides: steps from one output to the next.
    expansion: `E`, hidden channels for each input channel; `D` is rounded.
    squeezed_features: `R`, units of squeeze and excitation between filters and
      projection; 0 for none. EfficientNet has `C / 4`.
    activation: a key of `ACTIVATIONS`, after all but the projection.
    gate: a key of `ACTIVATIONS`, of squeeze and excitation.
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
    expansion: float = 6.0,
    squeezed_features: int = 0,
    activation: str = "relu6",
    gate: str = "sigmoid",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    hidden = round(expansion * in_features)
    if hidden < 1:
      raise ValueError(f"expansion: {expansion} leaves no channels")
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.expand = nnx.data(
      ConvNorm(in_features, hidden, (1, 1), activation=activation, **common)
      if expansion != 1
      else None
    )
    self.depthwise = ConvNorm(
      *(hidden, hidden, kernel_size),
      strides=strides,
      groups=hidden,
      activation=activation,
      **common,
    )
    self.excite = nnx.data(
      SqueezeExcite(
        hidden, squeezed_features, activation=activation, gate=gate, **common
      )
      if squeezed_features
      else None
    )
    self.project = ConvNorm(
      hidden, out_features, (1, 1), activation="identity", **common
    )
    self.adds_input = keeps_shape(in_features, out_features, strides)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    out = x if self.expand is None else self.expand(x)
    out = self.depthwise(out)
    if self.excite is not None:
      out = self.excite(out)
    out = self.project(out)
    return x + out if self.adds_input else out
