"""Fused MBConv: an inverted residual whose first two convolutions are one.

EfficientNetV2 (arXiv:2104.00298, section 3.2), for accelerators, on which an
ordinary convolution of few channels is faster than a depthwise one of many.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `D = E C` hidden channels, `R` squeezed ones.
Parameters: `K C D + 2 D`, `D F + 2 F`, and `2 D R + R + D` of squeeze and
excitation; with `E = 1` only `K C F + 2 F`. MACs: `K C D + D F`, or `K C F`, an
output place, and `2 D R` an image.
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


class FusedInvertedResidual(nnx.Module):
  """A convolution that expands, and one that projects.

  Args:
    in_features: `C`.
    out_features: `F`; the input is added to the output where it is `C` and
      strides are 1.
    kernel_size: of the first convolution, two sizes.
    strides: steps from one output to the next.
    expansion: `E`, hidden channels for each input channel; `D` is rounded.
      With 1 there is no projection: the first convolution makes the outputs.
    squeezed_features: `R`, units of squeeze and excitation before the
      projection; 0 for none.
    activation: a key of `ACTIVATIONS`, after the first convolution.
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
    expansion: float = 4.0,
    squeezed_features: int = 0,
    activation: str = "silu",
    gate: str = "sigmoid",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    projects = expansion != 1
    hidden = round(expansion * in_features) if projects else out_features
    if hidden < 1:
      raise ValueError(f"expansion: {expansion} leaves no channels")
    if squeezed_features and not projects:
      raise ValueError(
        f"squeezed_features: {squeezed_features} stand before a projection, "
        "and with expansion 1 there is none"
      )
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.expand = ConvNorm(
      *(in_features, hidden, kernel_size),
      strides=strides,
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
    self.project = nnx.data(
      ConvNorm(hidden, out_features, (1, 1), activation="identity", **common)
      if projects
      else None
    )
    self.adds_input = keeps_shape(in_features, out_features, strides)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    out = self.expand(x)
    if self.excite is not None:
      out = self.excite(out)
    if self.project is not None:
      out = self.project(out)
    return x + out if self.adds_input else out
