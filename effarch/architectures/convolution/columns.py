"""The gradient of a convolution's kernel, by oneDNN's products.

Axes as in `window`: `B *S C` inputs, `*K C/G F` kernels, `B *O F` outputs.
All arrays here are float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from effarch.architectures.convolution.onednn_calls import (
  cropped,
  forward,
  transposed_product,
)
from effarch.architectures.convolution.window import Window

# Numbers in a block of columns: about what the caches of a core hold.
_BLOCK = 2**21


def kernel_gradient(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array | None:
  """Returns the gradient of the kernel, whose lengths are `taps`.

  Of few channels and places, None: XLA's own is faster.
  """
  alone = window.groups == 1
  if alone and _choice(taps, *_sides(window, x, gradient)) == "xla":
    return None
  return laid_out_gradient(window, taps, x, gradient)


def laid_out_gradient(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  """Returns the gradient of the kernel, whose lengths are `taps`.

  Channel by channel (`C = F = G`), it is itself a convolution, of each image
  with its gradient as the kernel, whose taps are as far apart as the outputs
  were. Of all channels (`G = 1`), blocks of images are laid out as columns, a
  row for each output, and multiplied by the gradients. Without strides inputs
  and gradients can change places, and those of fewer channels are laid out.
  """
  if window.groups > 1:
    return _channelwise(window, taps, x, gradient)
  laid, summed = _sides(window, x, gradient)
  by_filters = _choice(taps, laid, summed) == "filters"
  if laid is x:
    return _by_columns(window, taps, x, gradient, by_filters=by_filters)
  over = _turned(window, taps)
  found = _by_columns(over, taps, laid, summed, by_filters=by_filters)
  return jnp.flip(found, range(len(taps))).swapaxes(-1, -2)


def _sides(
  window: Window, x: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns what is laid out, and what its columns are multiplied by."""
  turns = set(window.strides) == {1} and gradient.shape[-1] < x.shape[-1]
  return (gradient, x) if turns else (x, gradient)


def _choice(taps: Sequence[int], laid: jax.Array, summed: jax.Array) -> str:
  """Returns what was measured to be the fastest for a kernel's gradient.

  Args:
    taps: lengths of the kernel.
    laid: what is laid out as columns.
    summed: what these are multiplied by.

  Returns:
    `"filters"` for short columns, of enough places, or by enough others,
    `"xla"` for few products, and `"columns"` for all else.
  """
  few, many = laid.shape[-1], summed.shape[-1]
  places = math.prod(summed.shape[1:-1])
  column = math.prod(taps) * few
  if column <= 32 and many >= 16 and (places >= 200 or many >= 8 * few):
    return "filters"
  small = places <= 400 and few * many * places <= 40_000
  if many < 8 * few and (small or few * many <= 16):
    return "xla"
  return "columns"


def _turned(window: Window, taps: Sequence[int]) -> Window:
  """Returns the window by which each input sees the outputs that see it."""
  reach = [(t - 1) * d for t, d in zip(taps, window.dilation, strict=True)]
  padding = tuple(
    (r - left, r - right)
    for r, (left, right) in zip(reach, window.padding, strict=True)
  )
  return dataclasses.replace(window, padding=padding)


def _by_columns(
  window: Window,
  taps: Sequence[int],
  x: jax.Array,
  gradient: jax.Array,
  *,
  by_filters: bool,
) -> jax.Array:
  """Returns the kernel's gradient, one block of images after the other.

  Args:
    window: of the convolution.
    taps: of the kernel.
    x: what is laid out.
    gradient: what is summed.
    by_filters: lays out by a convolution whose filters take one number each,
      faster than by moving pieces of a few numbers.
  """
  x, padding = cropped(x, window.padding)
  window = dataclasses.replace(window, padding=padding)
  per_image = math.prod(taps) * x.shape[-1] * math.prod(gradient.shape[1:-1])
  size = max(1, min(len(x), _BLOCK // per_image))
  blocks, left = divmod(len(x), size)
  features = gradient.shape[-1]

  def block(start, size):
    images = lax.dynamic_slice_in_dim(x, start, size)
    if by_filters:
      seen = math.prod(taps) * x.shape[-1]
      filters = jnp.eye(seen, dtype=x.dtype).reshape(*taps, x.shape[-1], seen)
      columns = forward(window, images, filters).reshape(-1, seen)
    else:
      columns = _columns(window, taps, images, gradient)
    rows = lax.dynamic_slice_in_dim(gradient, start, size)
    return transposed_product(columns, rows.reshape(-1, features))

  def body(index, total):
    return total + block(index * size, size)

  total = jnp.zeros((math.prod(taps) * x.shape[-1], features), x.dtype)
  total = (
    lax.fori_loop(0, blocks, body, total) if blocks > 1 else block(0, size)
  )
  if left:
    total += block(len(x) - left, left)
  return total.reshape(*taps, x.shape[-1], features)


def _columns(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  """Returns what each output sees, `B *O` rows of `*K C` numbers."""
  x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
  seen = []
  for tap in np.ndindex(*taps):
    cuts = []
    for axis, t in enumerate(tap):
      first = t * window.dilation[axis]
      stop = first + (gradient.shape[1 + axis] - 1) * window.strides[axis] + 1
      cuts.append(slice(first, stop, window.strides[axis]))
    seen.append(x[(slice(None), *cuts)])
  columns = jnp.concatenate(seen, axis=-1)
  return columns.reshape(-1, columns.shape[-1])


def _channelwise(
  window: Window, taps: Sequence[int], x: jax.Array, gradient: jax.Array
) -> jax.Array:
  pads = [
    (left, (t - 1) * step + (n - 1) * stride + 1 - size - left)
    for size, t, n, step, stride, (left, _) in zip(
      x.shape[1:-1],
      taps,
      gradient.shape[1:-1],
      window.dilation,
      window.strides,
      window.padding,
      strict=True,
    )
  ]
  x, padding = cropped(x, pads)
  turned = Window(window.dilation, padding, window.strides, window.groups)

  def body(index, total):
    image = lax.dynamic_slice_in_dim(x, index, 1)
    rows = lax.dynamic_index_in_dim(gradient, index, keepdims=False)
    return total + forward(turned, image, rows[..., None, :])

  total = jnp.zeros((1, *taps, x.shape[-1]), x.dtype)
  total = lax.fori_loop(0, len(x), body, total)
  return total.reshape(*taps, 1, x.shape[-1])
