"""Parallel convolutions that become one for inference.

Structural re-parameterization (RepVGG, arXiv:2101.03697, section 3.3): sums of
convolutions of the same input are one convolution, whose kernel is the sum of
theirs, in the middle of the largest; what passes unchanged is a convolution by
an identity kernel, and normalization is a scale and an offset.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels,
`*K` a kernel's places, `G` groups.
Parameters: `sum_K (K C F / G + 2 F)`, and `2 F` where inputs pass. MACs an
output place: `sum_K K C F / G`. Folded: those of a largest convolution with
bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.activations import activation
from effarch.architectures.convolution.conv import Conv
from effarch.architectures.convolution.conv_norm import (
  ConvNorm,
  batch_norm,
  folded,
)
from effarch.architectures.convolution.same_shape import keeps_shape
from effarch.architectures.convolution.window import Sizes

# Kernels of `*K C/G F`; those of one sum have different `*K`.
Pair = tuple[Float[Array, "..."], Float[Array, " F"]]


def merged(pairs: Sequence[Pair]) -> Pair:
  """Returns kernel and bias of the convolution that is the sum of all.

  Args:
    pairs: kernels of `*K C/G F` and biases. Kernels differ by even numbers of
      places, so that all have the same middle.
  """
  shapes = [kernel.shape for kernel, _ in pairs]
  largest = [max(lengths) for lengths in zip(*shapes, strict=True)]
  kernels = []
  for kernel, _ in pairs:
    margins = [
      (big - small) // 2
      for big, small in zip(largest, kernel.shape, strict=True)
    ]
    kernels.append(jnp.pad(kernel, [(m, m) for m in margins]))
  biases = [bias for _, bias in pairs]
  return sum(kernels[1:], kernels[0]), sum(biases[1:], biases[0])


def passing(norm: nnx.BatchNorm, groups: int = 1) -> Pair:
  """Returns kernel, `1 1 C/G C`, and bias that do what `norm` does.

  Args:
    norm: with its moving statistics.
    groups: `G`.
  """
  channels = norm.num_features
  each = channels // groups
  # Channel `g C/G + i` sees the `i`-th of its group.
  identity = jnp.tile(jnp.eye(each), (1, groups)).reshape(1, 1, each, channels)
  conv = Conv(
    *(channels, channels, (1, 1)),
    groups=groups,
    use_bias=False,
    kernel_init=lambda key, shape, dtype: identity.astype(dtype),
    param_dtype=norm.param_dtype,
    rngs=nnx.Rngs(0),
  )
  return folded(conv, norm)


class Branches(nnx.Module):
  """Normalized convolutions of different sizes, added and then activated.

  Padding is half a kernel on all sides: with strides, `"SAME"` would put the
  middles of kernels of different sizes on different places.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_sizes: one for each branch, of odd sizes.
    strides: steps from one output to the next.
    groups: `G`.
    passes: adds the normalized input where shapes allow, that is with `F = C`
      and strides of 1.
    activation: a key of `ACTIVATIONS`.
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
    kernel_sizes: Sequence[Sequence[int]],
    *,
    strides: Sizes = 1,
    groups: int = 1,
    passes: bool = True,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    for kernel_size in kernel_sizes:
      if any(size % 2 == 0 for size in kernel_size):
        raise ValueError(
          f"kernel_size: {tuple(kernel_size)} has no middle, where branches "
          "meet; take odd sizes"
        )
    self.branches = nnx.List(
      ConvNorm(
        *(in_features, out_features, kernel_size),
        strides=strides,
        padding=tuple(size // 2 for size in kernel_size),
        groups=groups,
        activation="identity",
        **common,
      )
      for kernel_size in kernel_sizes
    )
    unchanged = keeps_shape(in_features, out_features, strides)
    self.norm = nnx.data(
      batch_norm(in_features, **common) if passes and unchanged else None
    )
    self.conv = nnx.data(None)
    self.activation = activation
    self._activate()  # A wrong name is told now.

  def _activate(self):
    return activation(self.activation)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    if self.conv is not None:
      return self._activate()(self.conv(x))
    parts = [branch(x) for branch in self.branches]
    if self.norm is not None:
      parts.append(self.norm(x))
    return self._activate()(sum(parts[1:], parts[0]))

  def fold(self) -> None:
    """Turns all branches into one convolution with bias."""
    if self.conv is not None:
      return
    pairs = []
    for branch in self.branches:
      branch.fold()
      assert branch.conv.bias is not None  # It is folded.
      pairs.append((branch.conv.kernel[...], branch.conv.bias[...]))
    conv = self.branches[0].conv
    if self.norm is not None:
      pairs.append(passing(self.norm, conv.groups))
    kernel, bias = merged(pairs)
    conv.kernel, conv.bias = nnx.Param(kernel), nnx.Param(bias)
    conv.padding = tuple(size // 2 for size in kernel.shape[:-2])
    self.conv = conv
    self.branches = nnx.List()
    self.norm = None
