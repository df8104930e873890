"""Number formats that weights and activations are rounded to.

A format is a grid of levels times a scale. Rounding to it, as if it were
differentiable (straight through, arXiv:1308.3432), is how models learn to live
with it (arXiv:1712.05877).

Axes: of any array; `F` is the axis of output channels.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

# Smallest and largest level: of zero points in the middle, and of others.
_SYMMETRIC = {
  "int8": (-127, 127),
  "int4": (-7, 7),
  "int2": (-2, 1),
  "ternary": (-1, 1),
  "binary": (-1, 1),
  "float8_e4m3fn": (-448, 448),
  "float8_e5m2": (-57344, 57344),
}
_AFFINE = {"int8": (-128, 127), "int4": (-8, 7), "int2": (-2, 1)}
_BITS = {"int8": 8, "int4": 4, "int2": 2, "ternary": 2, "binary": 1}
# A scale below makes zeros of all there is; LiteRT's kernels refuse smaller.
_LEAST_SCALE = 1e-9


@dataclasses.dataclass(frozen=True)
class Scheme:
  """A grid, and which numbers share a scale.

  Args:
    dtype: `"int8"`, `"int4"`, `"int2"`, `"ternary"`, `"binary"` (which alone
      has no zero), `"float8_e4m3fn"` or `"float8_e5m2"`.
    symmetric: zero is in the middle; else where the range puts it.
    per: `"tensor"`, `"channel"`, or how many of a channel's numbers, in order,
      make a group.

  Raises:
    ValueError: an argument is none of these.
  """

  dtype: str = "int8"
  symmetric: bool = True
  per: str | int = "channel"

  def __post_init__(self):
    known = _SYMMETRIC if self.symmetric else _AFFINE
    if self.dtype not in known:
      kind = "symmetric" if self.symmetric else "affine"
      raise ValueError(
        f"dtype: {self.dtype!r} is none of the {kind} formats, "
        f"{', '.join(known)}"
      )
    group = type(self.per) is int and self.per > 0
    if self.per not in ("tensor", "channel") and not group:
      raise ValueError(
        f"per: {self.per!r} is neither tensor nor channel nor a group's size"
      )

  @property
  def bits(self) -> int:
    """Bits of a number, but for scales."""
    return _BITS.get(self.dtype, 8)

  @property
  def levels(self) -> tuple[int, int]:
    """The smallest and the largest level."""
    return (_SYMMETRIC if self.symmetric else _AFFINE)[self.dtype]

  def arrange(self, x: Array, axis: int | None) -> Array:
    """Returns `x` in a shape in which the axes of one scale are whole.

    Args:
      x: any array.
      axis: of the output channels; without one, the scheme is per tensor.

    Raises:
      ValueError: groups don't come out even.
    """
    if isinstance(self.per, str) or axis is None:
      return x
    x = jnp.moveaxis(x, axis, -1)
    inputs = math.prod(x.shape[:-1])
    if inputs % self.per:
      raise ValueError(
        f"per: groups of {self.per} don't divide the {inputs} numbers of a "
        "channel"
      )
    return x.reshape(inputs // self.per, self.per, x.shape[-1])

  def restore(self, x: Array, shape: tuple[int, ...], axis: int | None):
    """Undoes `arrange`.

    Args:
      x: arranged.
      shape: before.
      axis: likewise.
    """
    if isinstance(self.per, str) or axis is None:
      return x
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    if axis < 0:
      raise ValueError(f"axis: {axis} is negative")
    return jnp.moveaxis(x.reshape(moved), -1, axis)

  def shared(self, ndim: int, axis: int | None) -> tuple[int, ...]:
    """Returns the axes of an arranged array that share a scale."""
    if axis is None or self.per == "tensor":
      return tuple(range(ndim))
    if isinstance(self.per, int):
      return (1,)
    return tuple(place for place in range(ndim) if place != axis)

  def range_of(self, x: Array, axis: int | None) -> tuple[Array, Array]:
    """Returns the smallest and largest number for each scale, and zero.

    Args:
      x: arranged.
      axis: of the output channels.
    """
    axes = self.shared(x.ndim, axis)
    ends = (
      functools.partial(jnp.min, initial=0),
      functools.partial(jnp.max, initial=0),
    )
    low, high = (end(x, axis=axes, keepdims=True) for end in ends)
    return low, high

  def parameters(self, low: Array, high: Array) -> tuple[Array, Array]:
    """Returns scale and zero point that reach from `low` to `high`.

    No scale is zero, and zero itself is a level, but for `"binary"`. Where
    there is no range the scale is 1/128, with which biases can be stored.
    """
    least, most = self.levels
    low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
    if self.symmetric:
      scale = _positive(jnp.maximum(low / least, high / most))
      return scale, jnp.zeros_like(scale)
    scale = _positive((high - low) / (most - least))
    zero = clipped(least - low / scale, float(least), float(most))
    return scale, rounded(zero)

  def level(self, x: Array, scale: Array, zero: Array) -> Array:
    """Returns the nearest levels less the zero point, straight through.

    The gradient is that of the clipped numbers before they were rounded; that
    of the scale is then the one of learned step sizes (arXiv:1902.08153).
    """
    least, most = self.levels
    x = clipped(x / scale, least - zero, most - zero)
    return _ROUND.get(self.dtype, rounded)(x)

  def fake(self, x: Array, scale: Array, zero: Array) -> Array:
    """Returns the nearest numbers of the grid; see `level`."""
    return self.level(x, scale, zero) * scale

  def encode(self, x: Array, scale: Array, zero: Array) -> Array:
    """Returns what is stored of arranged numbers, in the scheme's type."""
    level = self.level(x, scale, zero) + zero
    return level.astype(_STORED.get(self.dtype, self.dtype))

  def decode(self, codes: Array, scale: Array, zero: Array) -> Array:
    """Returns the numbers that codes stand for."""
    return (codes.astype(scale.dtype) - zero) * scale


_STORED = {"ternary": "int2", "binary": "int8"}


def _positive(scale: Array) -> Array:
  return jnp.where(scale > 0, jnp.maximum(scale, _LEAST_SCALE), 2.0**-7)


def _straight(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
  """Returns the function with a gradient of one."""
  through = jax.custom_jvp(function)
  through.defjvp(lambda xs, dxs: (function(*xs), *dxs))
  return through


def _cast(dtype: str) -> Callable[[Array], Array]:
  return _straight(lambda x: x.astype(dtype).astype(x.dtype))


rounded = _straight(lambda x: jnp.round(x))
_ROUND = {
  "binary": _straight(lambda x: jnp.where(x >= 0, 1, -1).astype(x.dtype)),
  "float8_e4m3fn": _cast("float8_e4m3fn"),
  "float8_e5m2": _cast("float8_e5m2"),
}


@jax.custom_jvp
def clipped(x: Array, low: Any, high: Any) -> Array:
  """Returns `x` within a range, whose ends still pass gradients to `x`."""
  return jnp.clip(x, low, high)


@clipped.defjvp
def _(values, tangents):
  x, low, high = values
  dx, dlow, dhigh = tangents
  change = jnp.where(x < low, dlow, jnp.where(x > high, dhigh, dx))
  return clipped(x, low, high), change


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def scaled_gradient(x: Array, factor: float) -> Array:
  """Returns `x`, its gradient times `factor` (arXiv:1902.08153)."""
  del factor
  return x


@scaled_gradient.defjvp
def _(factor, values, tangents):
  return values[0], tangents[0] * factor
