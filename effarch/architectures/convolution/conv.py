"""Convolution, by the formulation that the platform is fastest at.

On GPUs and TPUs, and wherever a program is lowered for them, it is XLA's own.
On CPUs it is oneDNN's, forward and backward, where the compiler has it, and
for single channels a sum of shifted products where not.

Axes: `B` batch, `*S` one or two spatial axes, `C` input and `F` output
channels, `*K` the kernel's spatial axes, `G` groups of channels, `*O` output
lengths.
Parameters: `K C F / G`, and `F` with bias. MACs an output place: `K C F / G`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from jax import lax
from jaxtyping import Array, Float

from effarch.architectures.convolution import onednn, shifted
from effarch.architectures.convolution.window import (
  Padding,
  Sizes,
  Window,
  sizes,
  window,
)

# More taps than these make long programs of the sum of shifted products.
_MOST_TAPS = 128


def conv(
  x: Float[Array, "B *S C"],
  kernel: Float[Array, "*K"],
  *,
  strides: Sizes = 1,
  padding: Padding = "SAME",
  dilation: Sizes = 1,
  groups: int = 1,
) -> Float[Array, "B *O F"]:
  """Returns the convolution of `x` with a kernel of `*K C/G F`.

  It has gradients of every order, backward.

  Args:
    x: the inputs, with one or two spatial axes.
    kernel: of the same type.
    strides: steps from one output to the next.
    padding: `"SAME"`, `"VALID"`, `"CAUSAL"` for one axis, or zeros: as many
      on all sides, as many for each axis, or pairs.
    dilation: steps from one tap to the next.
    groups: `G`; `C` of them filter each channel by itself.

  Raises:
    ValueError: shapes do not fit, or an argument is out of its range.
  """
  if x.ndim not in (3, 4) or kernel.ndim != x.ndim:
    raise ValueError(
      f"inputs {x.shape} and kernel {kernel.shape} are not B *S C and *K C/G F "
      "with one or two spatial axes"
    )
  channels, features = x.shape[-1], kernel.shape[-1]
  if kernel.shape[-2] * groups != channels or features % groups:
    raise ValueError(
      f"kernel {kernel.shape} does not fit {channels} channels in {groups} "
      "groups"
    )
  chosen = window(
    *(x.shape[1:-1], kernel.shape[:-2]),
    strides=strides,
    padding=padding,
    dilation=dilation,
    groups=groups,
  )
  return _forward(chosen, x, kernel)


# Three contractions of inputs, kernels and outputs. Each is linear in both of
# its arguments, and its gradients are the two others.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
@functools.partial(jax.jit, static_argnums=0)
def _forward(window: Window, x: Array, kernel: Array) -> Array:
  def by(formulation, x, kernel):
    each, x = _each_channel(window, x, kernel.shape[-1])
    return formulation.forward(each, x, kernel)

  portable = functools.partial(_portable, window)
  return _by_platform(
    window, x.shape[-1], kernel.shape, by, portable, x, kernel
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
@functools.partial(jax.jit, static_argnums=(0, 1))
def _input_gradient(
  window: Window, shape: tuple[int, ...], gradient: Array, kernel: Array
) -> Array:
  def by(formulation, gradient, kernel):
    each = window
    if window.groups == shape[-1]:
      each = dataclasses.replace(window, groups=kernel.shape[-1])
    found = formulation.input_gradient(each, shape[1:-1], gradient, kernel)
    # What several filters see gets the gradients of all.
    return found.reshape(*shape, -1).sum(-1)

  def portable(gradient, kernel):
    x = jax.ShapeDtypeStruct(shape, gradient.dtype)
    call = functools.partial(_portable, window, kernel=kernel)
    return jax.linear_transpose(call, x)(gradient)[0]

  return _by_platform(
    window, shape[-1], kernel.shape, by, portable, gradient, kernel
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
@functools.partial(jax.jit, static_argnums=(0, 1))
def _kernel_gradient(
  window: Window, shape: tuple[int, ...], x: Array, gradient: Array
) -> Array:
  def by(formulation, x, gradient):
    each, x = _each_channel(window, x, shape[-1])
    return formulation.kernel_gradient(each, shape[:-2], x, gradient)

  def portable(x, gradient):
    kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    call = functools.partial(_portable, window, x)
    return jax.linear_transpose(call, kernel)(gradient)[0]

  return _by_platform(window, x.shape[-1], shape, by, portable, x, gradient)


def _keeping(contraction: Callable) -> Callable:
  """Returns the forward pass that keeps both arguments."""
  return lambda *args: (contraction(*args), args[-2:])


def _forward_backward(window, kept, gradient):
  x, kernel = kept
  return (
    _input_gradient(window, x.shape, gradient, kernel),
    _kernel_gradient(window, kernel.shape, x, gradient),
  )


def _input_backward(window, _, kept, x):
  gradient, kernel = kept
  return (
    _forward(window, x, kernel),
    _kernel_gradient(window, kernel.shape, x, gradient),
  )


def _kernel_backward(window, _, kept, kernel):
  x, gradient = kept
  return (
    _input_gradient(window, x.shape, gradient, kernel),
    _forward(window, x, kernel),
  )


_forward.defvjp(_keeping(_forward), _forward_backward)
_input_gradient.defvjp(_keeping(_input_gradient), _input_backward)
_kernel_gradient.defvjp(_keeping(_kernel_gradient), _kernel_backward)


def _by_platform(
  window: Window,
  channels: int,
  kernel: Sequence[int],
  by: Callable[..., Array],
  portable: Callable[..., Array],
  *operands: Array,
) -> Array:
  """Returns what `by(formulation, ...)` or `portable(...)` does.

  Half precision is computed in float32 and rounded once, on the CPU: nothing
  is faster there, and what XLA fuses in it can be wrong (jax 0.12).
  """
  dtype = operands[0].dtype
  formulation = None
  if dtype != jnp.float64 and all(
    size for operand in operands for size in operand.shape
  ):
    alone = window.groups == channels
    if (alone or window.groups == 1) and onednn.available():
      formulation = onednn
    elif alone and math.prod(kernel[:-2]) <= _MOST_TAPS:
      formulation = shifted
  if formulation is None:
    return portable(*operands)

  def on_cpu(*operands):
    operands = [operand.astype(jnp.float32) for operand in operands]
    return by(formulation, *operands).astype(dtype)

  return lax.platform_dependent(*operands, cpu=on_cpu, default=portable)


def _portable(window: Window, x: Array, kernel: Array) -> Array:
  alone = Window.of_one_tap(x.ndim - 2)
  if kernel.shape[:-2] == (1,) * (x.ndim - 2) and window == alone:
    # A product makes smaller LiteRT files than a convolution.
    return x @ kernel.reshape(kernel.shape[-2:])
  spatial = "HW"[: x.ndim - 2]
  return lax.conv_general_dilated(
    *(x, kernel, window.strides, window.padding),
    rhs_dilation=window.dilation,
    dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
    feature_group_count=window.groups,
  )


def _each_channel(
  window: Window, x: Array, features: int
) -> tuple[Window, Array]:
  """Repeats channels that several filters see, so that each has one."""
  if window.groups < x.shape[-1] or window.groups == features:
    return window, x
  x = jnp.repeat(x, features // window.groups, axis=-1)
  return dataclasses.replace(window, groups=features), x


class Conv(nnx.Module):
  """A drop-in for `nnx.Conv`: the same parameters, faster on CPUs.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: `*K`, one or two sizes.
    strides: steps from one output to the next, one for all axes or one each.
    padding: see `conv`.
    dilation: steps from one tap to the next.
    groups: `G`, which divides `C` and `F`.
    use_bias: adds `F` learned offsets.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    kernel_init: draws the kernel; if `None`, with a variance of one over what
      an output sees.
    rngs: draws the initial kernel.

  Raises:
    ValueError: groups do not divide the channels, or a size is not positive.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int],
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    kernel_init: nnx.Initializer | None = None,
    rngs: nnx.Rngs,
  ):
    if groups < 1 or in_features % groups or out_features % groups:
      raise ValueError(
        f"groups: {groups} does not divide {in_features} and {out_features} "
        "channels"
      )
    taps = sizes("kernel_size", kernel_size, len(kernel_size))
    shape = *taps, in_features // groups, out_features
    draw = kernel_init or nnx.initializers.lecun_normal()
    self.kernel = nnx.Param(draw(rngs.params(), shape, param_dtype))
    self.bias = nnx.data(
      nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else None
    )
    self.strides = strides
    self.padding = padding
    self.dilation = dilation
    self.groups = groups
    self.dtype = dtype

  def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *O F"]:
    x, kernel, bias = dtypes.promote_dtype(
      (x, self.kernel[...], None if self.bias is None else self.bias[...]),
      dtype=self.dtype,
    )
    x = conv(
      x,
      kernel,
      strides=self.strides,
      padding=self.padding,
      dilation=self.dilation,
      groups=self.groups,
    )
    return x if bias is None else x + bias
