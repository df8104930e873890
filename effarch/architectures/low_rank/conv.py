"""A convolution whose kernel has a structure.

Axes: `B` batch, `*S` one or two spatial axes, `C` input and `F` output
channels, `*K` the kernel's spatial axes, `*O` output lengths.
Parameters and MACs: the structure's, and `F` parameters with bias.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution import conv
from effarch.architectures.convolution.window import (
  Padding,
  Sizes,
  Window,
  sizes,
  window,
)
from effarch.architectures.low_rank.structure import (
  Factors,
  Fitted,
  Structure,
  promoted,
  variables,
)

_Kind = TypeVar("_Kind", bound="ConvStructure")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvStructure(Structure):
  """A way to make a kernel `*K C F` of fewer numbers.

  The last axis of the factor `up` is `F`.

  Args:
    params_ratio: of the structure's numbers to the kernel's.
  """

  def draw(self, key, *shape: int) -> dict[str, Array]:
    """Returns factors at random; elements have a variance of `1 / (K C)`.

    Args:
      key: draws.
      *shape: `*K C F`.
    """
    raise NotImplementedError

  def apply(self, factors: Factors, x: Array, over: Window) -> Array:
    """Returns the convolution of `x` with the kernel.

    Args:
      factors: of one type with `x`.
      x: `B *S C`.
      over: steps and margins.
    """
    raise NotImplementedError

  def to_dense(self, factors: Factors) -> Array:
    """Returns the kernel `*K C F`."""
    raise NotImplementedError

  def params(self, *shape: int) -> int:
    """Returns how many numbers are trained.

    Args:
      *shape: `*K C F`.
    """
    raise NotImplementedError

  def macs(self, shape, spatial, over: Window) -> int:
    """Returns the multiply-accumulates of `apply` to one input.

    Args:
      shape: `*K C F`.
      spatial: `*S`.
      over: steps and margins.
    """
    raise NotImplementedError

  def sizes(self, *shape: int) -> Iterable[int | tuple[int, ...]]:
    """Returns what the chosen field may be.

    Args:
      *shape: `*K C F`.
    """
    raise NotImplementedError

  def fitted(self: _Kind, *shape: int) -> _Kind:
    """Returns the structure with its size chosen, if a share was given.

    Args:
      *shape: `*K C F`.

    Raises:
      ValueError: the share is of fewer numbers than the structure has.
    """
    sizes = self.sizes(*shape)
    return self._chosen(shape, sizes, lambda one: one.params(*shape))


def convolved(
  x: Float[Array, "B *S C"],
  kernel: Float[Array, "*K"],
  over: Window,
  axes: Sequence[int],
  groups: int = 1,
) -> Float[Array, "B *O F"]:
  """Returns a convolution along some of the axes of a window.

  Args:
    x: the inputs.
    kernel: of one tap along all other axes.
    over: steps and margins.
    axes: places of the spatial axes along which it goes.
    groups: of channels.
  """
  part = along(over, axes)
  return conv(
    x,
    kernel,
    strides=part.strides,
    padding=part.padding,
    dilation=part.dilation,
    groups=groups,
  )


def along(over: Window, axes: Sequence[int]) -> Window:
  """Returns a window that takes every place of all axes but these."""
  count = range(len(over.strides))
  return Window(
    tuple(over.strides[k] if k in axes else 1 for k in count),
    tuple(over.padding[k] if k in axes else (0, 0) for k in count),
    tuple(over.dilation[k] if k in axes else 1 for k in count),
  )


class StructuredConv(nnx.Module):
  """A drop-in for `nnx.Conv`: the same call, of the same initial variance.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: `*K`, one or two sizes.
    structure: how the kernel is made; its size is chosen if it has a
      `params_ratio`.
    strides: steps from one output to the next, one for all axes or one each.
    padding: see `effarch.architectures.convolution.conv`.
    dilation: steps from one tap to the next.
    use_bias: adds `F` learned offsets.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    factors: what the kernel is made of; drawn if `None`.
    rngs: draws it.

  Raises:
    ValueError: the structure does not fit the sizes.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int],
    structure: ConvStructure,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    factors: Factors | Fitted | None = None,
    rngs: nnx.Rngs | None = None,
  ):
    taps = sizes("kernel_size", kernel_size, len(kernel_size))
    self.shape = *taps, in_features, out_features
    self.structure = structure.fitted(*self.shape)
    if factors is None:
      if rngs is None:
        raise ValueError("rngs: missing, and no factors are given")
      factors = self.structure.draw(rngs.params(), *self.shape)
    self.factors = variables(factors, self.structure.frozen, param_dtype)
    self.bias = nnx.data(
      nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else None
    )
    self.strides = strides
    self.padding = padding
    self.dilation = dilation
    self.dtype = dtype
    self.param_dtype = param_dtype

  @classmethod
  def from_dense(
    cls,
    kernel: Float[Array, "*K"] | Float[np.ndarray, "*K"],
    structure: ConvStructure,
    **arguments: Any,
  ) -> StructuredConv:
    """Returns a layer whose kernel is near a dense one.

    Args:
      kernel: the dense one, `*K C F`.
      structure: how the new one is made.
      **arguments: further ones of the layer's.

    Raises:
      ValueError: the structure does not fit the sizes.
    """
    *taps, channels, features = kernel.shape
    structure = structure.fitted(*kernel.shape)
    factors = structure.from_dense(np.asarray(kernel, np.float64))
    given = {"factors": factors, **arguments}
    return cls(channels, features, taps, structure, **given)

  def to_dense(self) -> Float[Array, "*K"]:
    """Returns the kernel `*K C F`."""
    factors = {name: factor[...] for name, factor in self.factors.items()}
    return self.structure.to_dense(factors)

  @property
  def kernel(self) -> Float[Array, "*K"]:
    """The kernel `*K C F`, for code that reads a convolution's."""
    return self.to_dense()

  def scale_outputs(self, scale: Float[Array, " F"]) -> None:
    """Changes the layer to one that has outputs times so much."""
    for numbers in (self.factors["up"], self.bias):
      if numbers is not None:
        numbers[...] = (numbers[...] * scale).astype(numbers.dtype)

  def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *O F"]:
    x, factors, bias = promoted(x, self.factors, self.bias, self.dtype)
    over = window(
      *(x.shape[1:-1], self.shape[:-2]),
      strides=self.strides,
      padding=self.padding,
      dilation=self.dilation,
      groups=1,
    )
    out = self.structure.apply(factors, x, over)
    return out if bias is None else out + bias
