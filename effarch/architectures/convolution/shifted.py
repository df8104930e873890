"""Filters of single channels as sums of shifted products.

For compilers without a fast convolution of single channels: what each tap sees
is a slice of the padded inputs, and the products fuse into one loop.

Axes: `B` batch, `*S` spatial, `C` channels, `*K` the kernel's spatial axes,
`*O` output lengths.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from effarch.architectures.convolution.window import Window


def _slices(
  window: Window, taps: Sequence[int], out: Sequence[int]
) -> Iterator[tuple[slice, ...]]:
  """Yields where the padded inputs meet each tap."""
  for tap in np.ndindex(*taps):
    yield tuple(
      slice(t * step, t * step + (length - 1) * stride + 1, stride)
      for t, step, length, stride in zip(
        tap, window.dilation, out, window.strides, strict=True
      )
    )


def _padded(window: Window, x: jax.Array) -> jax.Array:
  return jnp.pad(x, ((0, 0), *window.padding, (0, 0)))


def forward(window: Window, x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the convolution of `B *S C` with a kernel of `*K 1 C`."""
  taps = kernel.shape[:-2]
  out = window.out(x.shape[1:-1], taps)
  x, rows = _padded(window, x), kernel.reshape(-1, kernel.shape[-1])
  products = [
    x[(slice(None), *cut)] * row
    for cut, row in zip(_slices(window, taps, out), rows, strict=True)
  ]
  return functools.reduce(jnp.add, products)


def input_gradient(
  window: Window,
  spatial: Sequence[int],
  gradient: jax.Array,
  kernel: jax.Array,
) -> jax.Array:
  """Returns the gradient of the input: with flipped taps, the same sum."""
  pads = [(0, 0, 0)]
  for axis, (left, _) in enumerate(window.padding):
    reach = (kernel.shape[axis] - 1) * window.dilation[axis]
    used = (gradient.shape[1 + axis] - 1) * window.strides[axis] + 1
    behind = spatial[axis] + left - used
    pads.append((reach - left, behind, window.strides[axis] - 1))
  gradient = lax.pad(
    gradient, jnp.zeros((), gradient.dtype), [*pads, (0, 0, 0)]
  )
  axes = len(spatial)
  whole = Window((1,) * axes, ((0, 0),) * axes, window.dilation, window.groups)
  return forward(whole, gradient, jnp.flip(kernel, range(axes)))


def kernel_gradient(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  """Returns the gradient of the kernel, image by image, which caches hold."""
  x, out = _padded(window, x), gradient.shape[1:-1]
  axes = tuple(range(len(taps)))

  def body(index, total):
    image, rows = (
      lax.dynamic_index_in_dim(array, index, keepdims=False)
      for array in (x, gradient)
    )
    return total + jnp.stack(
      [(image[cut] * rows).sum(axes) for cut in _slices(window, taps, out)]
    )

  total = jnp.zeros((int(np.prod(taps)), x.shape[-1]), x.dtype)
  total = lax.fori_loop(0, len(x), body, total)
  return total.reshape(*taps, 1, x.shape[-1])
