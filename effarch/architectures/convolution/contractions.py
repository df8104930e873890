"""The three contractions of a convolution, by the platform's best formulation.

Output from input and kernel, input's gradient from output's and kernel, and
kernel's gradient from input and output's. Each is linear in both of its
arguments, and its gradients are the two others.

Axes: `B` batch, `*S` one or two spatial axes, `C` input and `F` output
channels, `*K` the kernel's spatial axes, `G` groups of channels, `*O` output
lengths.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from types import ModuleType

import jax
import jax.numpy as jnp
from jax import Array, lax

from effarch.architectures.convolution import groupwise, onednn, shifted
from effarch.architectures.convolution.window import Window

# More of either make long programs: a product each, a convolution each.
_MOST_TAPS = _MOST_GROUPS = 128
_IS_PLAIN = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
  """Has all convolutions that are traced within be XLA's own, on CPUs too.

  So that programs can be written down, in JAX's persistent cache or a file, and
  others than effarch can count what they do.
  """
  token = _IS_PLAIN.set(True)
  try:
    yield
  finally:
    _IS_PLAIN.reset(token)


def convolve(window: Window, x: Array, kernel: Array) -> Array:
  """Returns the convolution of `B *S C` and `*K C/G F`, `B *O F`."""
  return _forward(_formulation(window, x, kernel), window, x, kernel)


def _formulation(window: Window, x: Array, kernel: Array) -> ModuleType | None:
  """Returns what computes this on CPUs, if it is not XLA by itself."""
  alone = window.groups == x.shape[-1]
  lengths = window.out(x.shape[1:-1], kernel.shape[:-2])
  some = all((*x.shape, *kernel.shape, *lengths))
  if _IS_PLAIN.get() or x.dtype == jnp.float64 or not some:
    return None
  if onednn.available():
    if alone or window.groups == 1:
      return onednn
    return groupwise if window.groups <= _MOST_GROUPS else None
  if alone and math.prod(kernel.shape[:-2]) <= _MOST_TAPS:
    return shifted
  return None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
@functools.partial(jax.jit, static_argnums=(0, 1))
def _forward(
  by: ModuleType | None, window: Window, x: Array, kernel: Array
) -> Array:
  def on_cpu(by, x, kernel):
    each, x = _each_channel(window, x, kernel.shape[-1])
    return by.forward(each, x, kernel)

  portable = functools.partial(_portable, window)
  return _by_platform(by, on_cpu, portable, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _input_gradient(
  by: ModuleType | None,
  window: Window,
  shape: tuple[int, ...],
  gradient: Array,
  kernel: Array,
) -> Array:
  def on_cpu(by, gradient, kernel):
    each = window
    if window.groups == shape[-1]:
      each = dataclasses.replace(window, groups=kernel.shape[-1])
    found = by.input_gradient(each, shape[1:-1], gradient, kernel)
    # What several filters see gets the gradients of all.
    return found.reshape(*shape, -1).sum(-1)

  def portable(gradient, kernel):
    x = jax.ShapeDtypeStruct(shape, gradient.dtype)
    call = functools.partial(_portable, window, kernel=kernel)
    return jax.linear_transpose(call, x)(gradient)[0]

  return _by_platform(by, on_cpu, portable, gradient, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _kernel_gradient(
  by: ModuleType | None,
  window: Window,
  shape: tuple[int, ...],
  x: Array,
  gradient: Array,
) -> Array:
  def on_cpu(by, x, gradient):
    each, laid = _each_channel(window, x, shape[-1])
    found = by.kernel_gradient(each, shape[:-2], laid, gradient)
    return portable(x, gradient) if found is None else found

  def portable(x, gradient):
    kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    call = functools.partial(_portable, window, x)
    return jax.linear_transpose(call, kernel)(gradient)[0]

  return _by_platform(by, on_cpu, portable, x, gradient)


def _keeping(contraction: Callable) -> Callable:
  """Returns the forward pass, which keeps what the backward pass needs.

  That is both arguments, and for each an empty mark if its gradient is asked
  for: that of images, say, is not.
  """

  def forward(*arguments):
    *static, left, right = arguments
    marks = [() if each.perturbed else None for each in (left, right)]
    values = left.value, right.value
    return contraction(*static, *values), (*values, *marks)

  return forward


def _backward(first: Callable, second: Callable) -> Callable:
  """Returns the backward pass: the gradients that are asked for."""

  def backward(*arguments):
    *static, (left, right, *asked), gradient = arguments
    by, window = static[:2]
    calls = zip((first, second), asked, strict=True)
    return tuple(
      None if mark is None else call(by, window, left, right, gradient)
      for call, mark in calls
    )

  return backward


_forward.defvjp(
  _keeping(_forward),
  _backward(
    lambda by, w, x, k, dy: _input_gradient(by, w, x.shape, dy, k),
    lambda by, w, x, k, dy: _kernel_gradient(by, w, k.shape, x, dy),
  ),
  symbolic_zeros=True,
)
_input_gradient.defvjp(
  _keeping(_input_gradient),
  _backward(
    lambda by, w, dy, k, x: _forward(by, w, x, k),
    lambda by, w, dy, k, x: _kernel_gradient(by, w, k.shape, x, dy),
  ),
  symbolic_zeros=True,
)
_kernel_gradient.defvjp(
  _keeping(_kernel_gradient),
  _backward(
    lambda by, w, x, dy, k: _input_gradient(by, w, x.shape, dy, k),
    lambda by, w, x, dy, k: _forward(by, w, x, k),
  ),
  symbolic_zeros=True,
)


def _by_platform(
  by: ModuleType | None,
  on_cpu: Callable[..., Array],
  portable: Callable[..., Array],
  *operands: Array,
) -> Array:
  """Returns what `on_cpu(by, ...)` or `portable(...)` does.

  Half precision is computed in float32 and rounded once, on the CPU: nothing
  is faster there, and what XLA fuses in it can be wrong (jax 0.12).
  """
  if by is None:
    return portable(*operands)
  dtype = operands[0].dtype

  def in_float32(*operands):
    operands = [operand.astype(jnp.float32) for operand in operands]
    return on_cpu(by, *operands).astype(dtype)

  return lax.platform_dependent(*operands, cpu=in_float32, default=portable)


def _portable(window: Window, x: Array, kernel: Array) -> Array:
  one_tap = kernel.shape[:-2] == (1,) * (x.ndim - 2)
  alone = one_tap and window == Window.of_one_tap(x.ndim - 2)
  if alone and math.prod(x.shape[1:-1]) > 1:
    # A product makes smaller LiteRT files than a convolution, where there is
    # more than one place: of a single one, LiteRT's converter refuses it.
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
