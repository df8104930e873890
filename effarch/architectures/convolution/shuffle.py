"""Channel shuffle, and the two ShuffleNets' units around it.

Version 1 (arXiv:1707.01083): 1x1 convolutions in groups, whose channels are
shuffled so that groups meet. Version 2 (arXiv:1807.11164): half of the channels
pass, the others are convolved, and both are shuffled.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `G` groups.
Parameters and MACs: see the units.
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


def channel_shuffle(
  x: Float[Array, "B H W C"], groups: int
) -> Float[Array, "B H W C"]:
  """Returns the channels in another order: the first of each group, ...

  Args:
    x: the channels of `G` groups, one behind the other.
    groups: `G`.

  Raises:
    ValueError: groups do not divide the channels.
  """
  channels = x.shape[-1]
  if groups < 1 or channels % groups:
    raise ValueError(f"groups: {groups} does not divide {channels} channels")
  by_group = x.reshape(-1, groups, channels // groups)
  return by_group.swapaxes(1, 2).reshape(x.shape)


class ShuffleV1(nnx.Module):
  """Mixes in groups, shuffles, filters each channel, and mixes again.

  With strides, a mean of the inputs is laid beside the outputs, which then are
  `F - C` channels; otherwise `F = C`, and the input is added. Parameters, with
  `D = F / 4`, and `N` the channels that the last convolution makes:
  `C D / G + 2 D + K D + 2 D + D N / G + 2 N`. MACs: `C D / G` an input place,
  and `K D + D N / G` an output place.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: of the filters, two sizes.
    strides: steps from one output to the next.
    groups: `G`, of both 1x1 convolutions.
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
    groups: int = 2,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.strides = sizes("strides", strides, 2)
    self.adds_input = set(self.strides) == {1}
    made = out_features - (0 if self.adds_input else in_features)
    if made < 1 or (self.adds_input and in_features != out_features):
      raise ValueError(
        f"out_features: {out_features} is not {in_features}, the inputs, or "
        "more with strides, where the inputs' mean is part of the outputs"
      )
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    hidden = out_features // 4
    if hidden < 1 or hidden % groups:
      raise ValueError(
        f"groups: {groups} does not divide a quarter of {out_features} channels"
      )
    self.groups = groups
    self.first = ConvNorm(in_features, hidden, (1, 1), groups=groups, **common)
    self.depthwise = ConvNorm(
      *(hidden, hidden, kernel_size),
      strides=strides,
      groups=hidden,
      activation="identity",
      **common,
    )
    self.last = ConvNorm(
      *(hidden, made, (1, 1)), groups=groups, activation="identity", **common
    )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    out = channel_shuffle(self.first(x), self.groups)
    out = self.last(self.depthwise(out))
    if self.adds_input:
      return nnx.relu(x + out)
    x = nnx.avg_pool(
      x,
      window_shape=(3, 3),
      strides=self.strides,
      padding="SAME",
      count_include_pad=False,
    )
    return jnp.concatenate([x.astype(out.dtype), nnx.relu(out)], axis=-1)


class ShuffleV2(nnx.Module):
  """Two branches, laid side by side and shuffled.

  Where the shape is kept, one branch is half of the inputs as they are, and the
  other the other half, convolved; elsewhere both see all, and both filter.
  Parameters, with `D = F / 2`, and `N = C / 2` or `C` inputs of the convolved
  branch: `N D + 2 D + K D + 2 D + D^2 + 2 D`, and where the shape changes
  `K C + 2 C + C D + 2 D` more. MACs: `N D` an input place, and an output place
  `K D + D^2`, and `K C + C D` more.

  Args:
    in_features: `C`, an even number where the shape is kept.
    out_features: `F`, an even number.
    kernel_size: of the filters, two sizes.
    strides: steps from one output to the next.
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
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if out_features < 2 or out_features % 2:
      raise ValueError(f"out_features: {out_features} has no halves")
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    half = out_features // 2
    keeps = keeps_shape(in_features, out_features, strides)

    def filters(features: int) -> ConvNorm:
      return ConvNorm(
        *(features, features, kernel_size),
        strides=strides,
        groups=features,
        activation="identity",
        **common,
      )

    def mix(start: int) -> ConvNorm:
      return ConvNorm(start, half, (1, 1), **common)

    self.passed = half if keeps else 0
    self.beside = nnx.List(
      [] if keeps else [filters(in_features), mix(in_features)]
    )
    self.branch = nnx.List(
      [mix(in_features - self.passed), filters(half), mix(half)]
    )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    beside, out = x[..., : self.passed] if self.passed else x, x
    out = out[..., self.passed :]
    for layer in self.beside:
      beside = layer(beside)
    for layer in self.branch:
      out = layer(out)
    return channel_shuffle(jnp.concatenate([beside, out], axis=-1), 2)
