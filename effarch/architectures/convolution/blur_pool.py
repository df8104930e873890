"""Strides that do not alias: blur first, then step.

Zhang's (arXiv:1904.11486): a convolution takes every place, and a fixed
binomial filter of each channel steps over its activated outputs. Images are
reflected at their borders, as in the author's code, so that what is constant
stays so.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `L` taps of the filter in each axis that is stepped over.
Parameters of `BlurConv`: `K C F + 2 F`. MACs: `K C F` an input place, and `L^2
F` an output place if both axes are stepped over, `L F` if one is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv_norm import ConvNorm
from effarch.architectures.convolution.depthwise import depthwise_conv
from effarch.architectures.convolution.window import Sizes, sizes


def blur_pool(
  x: Float[Array, "B H W C"], strides: Sizes = 2, taps: int = 3
) -> Float[Array, "B H2 W2 C"]:
  """Returns every `strides`-th place of the blurred images.

  Args:
    x: the images.
    strides: one for both axes or one each. With 1 an axis is let be.
    taps: `L`: 3 weighs by 1 2 1, and 5 by 1 4 6 4 1.

  Raises:
    ValueError: there is no tap, or a step is not positive.
  """
  if taps < 1:
    raise ValueError(f"taps: {taps} is not positive")
  strides = sizes("strides", strides, 2)
  weights = [math.comb(taps - 1, k) / 2 ** (taps - 1) for k in range(taps)]
  rows, columns = (weights if stride > 1 else [1] for stride in strides)
  kernel = np.outer(rows, columns)
  if kernel.size == 1:
    return x[:, :: strides[0], :: strides[1]]
  for axis, size in zip((1, 2), kernel.shape, strict=True):
    x = _reflected(x, axis, (size - 1) // 2, size // 2)
  kernel = jnp.asarray(kernel, x.dtype)[:, :, None, None]
  kernel = jnp.broadcast_to(kernel, (*kernel.shape[:3], x.shape[-1]))
  return depthwise_conv(x, kernel, strides=strides, padding="VALID")


def _reflected(x: Array, axis: int, before: int, behind: int) -> Array:
  """Returns the images with margins that mirror them without their border."""
  size = x.shape[axis]
  # Back and forth, however narrow the image is.
  there = [*range(size), *range(size - 2, 0, -1)]

  def place(index: int) -> Array:
    start = [0] * x.ndim
    start[axis] = there[index % len(there)]
    cut = tuple(
      slice(s, s + 1) if a == axis else slice(None) for a, s in enumerate(start)
    )
    return x[cut]

  margins = [place(i) for i in range(-before, 0)]
  beyond = [place(i) for i in range(size, size + behind)]
  return jnp.concatenate([*margins, x, *beyond], axis=axis)


class BlurConv(nnx.Module):
  """A convolution of every place, and blurred steps over its outputs.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: two sizes.
    strides: steps of the blurring; with 1, the block is a `ConvNorm`.
    taps: `L`, see `blur_pool`.
    activation: a key of `ACTIVATIONS`, before the blurring.
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
    taps: int = 3,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if taps < 1:
      raise ValueError(f"taps: {taps} is not positive")
    self.conv = ConvNorm(
      *(in_features, out_features, kernel_size),
      activation=activation,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
    self.strides = sizes("strides", strides, 2)
    self.taps = taps

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    return blur_pool(self.conv(x), self.strides, self.taps)
