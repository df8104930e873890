"""Convolutions in groups as one convolution of oneDNN for each group.

XLA's own on CPUs is slow, most of all backward.

Axes as in `window`: `B *S C` inputs, `*K C/G F` kernels, `B *O F` outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from effarch.architectures.convolution import onednn
from effarch.architectures.convolution.columns import laid_out_gradient
from effarch.architectures.convolution.window import Window


def forward(window: Window, x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the convolution."""
  return _each(onednn.forward, window, (), x, kernel)


def input_gradient(
  window: Window,
  spatial: Sequence[int],
  gradient: jax.Array,
  kernel: jax.Array,
) -> jax.Array:
  """Returns the gradient of the input, whose lengths are `spatial`."""
  return _each(onednn.input_gradient, window, (spatial,), gradient, kernel)


def kernel_gradient(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  """Returns the gradient of the kernel, whose lengths are `taps`."""
  return _each(laid_out_gradient, window, (taps,), x, gradient)


def _each(
  contraction: Callable[..., jax.Array],
  window: Window,
  static: tuple[Sequence[int], ...],
  *operands: jax.Array,
) -> jax.Array:
  """Returns the results of all groups side by side."""
  parts = zip(
    *(jnp.split(operand, window.groups, -1) for operand in operands),
    strict=True,
  )
  alone = dataclasses.replace(window, groups=1)
  return jnp.concatenate(
    [contraction(alone, *static, *part) for part in parts], -1
  )
