"""Universal inverted bottleneck: an inverted residual, its filters optional.

MobileNetV4 (arXiv:2404.10518, section 4): a depthwise convolution before the
expansion, one after it, both (ExtraDW), or none. One in front alone is like
ConvNeXt's block, one after the expansion alone an inverted residual, and none
is a feed-forward network.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
and `S` places of the two kernels, `D = E C` hidden channels.
Parameters: `S C + 2 C` if there are first filters, `C D + 2 D`, `K D + 2 D` if
there are others, `D F + 2 F`. MACs: `S C` and `C D` a place before the strides
are taken, `K D` and `D F` a place after; the last filters take them if there
are any, or else the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv_norm import ConvNorm
from effarch.architectures.convolution.same_shape import keeps_shape
from effarch.architectures.convolution.window import Sizes, sizes


class UniversalInvertedResidual(nnx.Module):
  """Filters before or behind an expansion, and projects.

  Args:
    in_features: `C`.
    out_features: `F`; the input is added to the output where it is `C` and
      strides are 1.
    kernel_size: of the filters behind the expansion, two sizes, or `None`.
    strides: steps from one output to the next.
    start_kernel_size: of the filters before the expansion, which have no
      activation, two sizes, or `None`.
    expansion: `E`, hidden channels for each input channel; `D` is rounded.
    activation: a key of `ACTIVATIONS`, after the expansion and what follows.
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
    kernel_size: Sequence[int] | None = (3, 3),
    *,
    strides: Sizes = 1,
    start_kernel_size: Sequence[int] | None = None,
    expansion: float = 4.0,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    hidden = round(expansion * in_features)
    if hidden < 1:
      raise ValueError(f"expansion: {expansion} leaves no channels")
    filtered = kernel_size is not None or start_kernel_size is not None
    if not filtered and max(sizes("strides", strides, 2)) > 1:
      raise ValueError(f"strides: {strides!r} is not 1, and there is no filter")
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}

    def filters(
      features: int, taps: Sequence[int] | None, steps: Sizes, name: str
    ) -> ConvNorm | None:
      if taps is None:
        return None
      return ConvNorm(
        *(features, features, taps),
        strides=steps,
        groups=features,
        activation=name,
        **common,
      )

    first = strides if kernel_size is None else 1
    self.start = nnx.data(
      filters(in_features, start_kernel_size, first, "identity")
    )
    self.expand = ConvNorm(
      in_features, hidden, (1, 1), activation=activation, **common
    )
    self.depthwise = nnx.data(filters(hidden, kernel_size, strides, activation))
    self.project = ConvNorm(
      hidden, out_features, (1, 1), activation="identity", **common
    )
    self.adds_input = keeps_shape(in_features, out_features, strides)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    out = x if self.start is None else self.start(x)
    out = self.expand(out)
    if self.depthwise is not None:
      out = self.depthwise(out)
    out = self.project(out)
    return x + out if self.adds_input else out
