"""Partial convolution: some channels are convolved, the others are let be.

FasterNet (arXiv:2303.03667), for its speed: fewer numbers are moved than by a
depthwise convolution with as many MACs. `FasterNetBlock` adds two 1x1
convolutions, which mix the channels, and a residual.

Axes: `B` batch, `H W` height and width, `C` channels, `D` of them convolved,
`K` the kernel's places, `E` expansion.
Parameters: `K D^2`, and the block's `2 E C^2 + 2 E C` more. MACs a place:
`K D^2`, and the block's `2 E C^2` more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv import Conv
from effarch.architectures.convolution.conv_norm import ConvNorm
from effarch.architectures.convolution.same_shape import check_same_shape
from effarch.architectures.convolution.window import Sizes


class PartialConv(nnx.Module):
  """Convolves the first channels, without bias.

  Args:
    in_features: `C`.
    out_features: `C` too.
    kernel_size: two sizes.
    strides: 1.
    partition: of how many parts the first is convolved, `D = C // partition`.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernel.

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
    partition: int = 4,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    check_same_shape("PartialConv", in_features, out_features, strides)
    if not 1 <= partition <= in_features:
      raise ValueError(
        f"partition: {partition} is not from 1 to {in_features}, the channels"
      )
    self.convolved = in_features // partition
    self.conv = Conv(
      *(self.convolved, self.convolved, kernel_size),
      use_bias=False,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    first = self.conv(x[..., : self.convolved])
    rest = x[..., self.convolved :].astype(first.dtype)
    return jnp.concatenate([first, rest], axis=-1)


class FasterNetBlock(nnx.Module):
  """A partial convolution, two that mix channels, and the input.

  Args:
    in_features: `C`.
    out_features: `C` too.
    kernel_size: two sizes, of the partial convolution.
    strides: 1.
    partition: of how many parts the first is convolved.
    expansion: `E`, hidden channels for each channel.
    activation: a key of `ACTIVATIONS`; GELU in the paper's two smallest
      models, ReLU in the others.
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
    partition: int = 4,
    expansion: int = 2,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    check_same_shape("FasterNetBlock", in_features, out_features, strides)
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    hidden = expansion * in_features
    self.partial = PartialConv(
      *(in_features, in_features, kernel_size), partition=partition, **common
    )
    self.expand = ConvNorm(
      in_features, hidden, (1, 1), activation=activation, **common
    )
    self.project = Conv(hidden, in_features, (1, 1), use_bias=False, **common)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    return x + self.project(self.expand(self.partial(x)))
