"""Max pooling whose gradient is a comparison, not a scatter.

XLA's own gradient of a window's maximum is a `select_and_scatter`, which takes
14 to 60 times as long on CPUs. Where windows do not overlap, each input can be
told whether it was its window's first maximum.

Axes: `B` batch, `H W` height and width, `C` channels.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(
  x: Float[Array, "B H W C"], size: tuple[int, int] = (2, 2)
) -> Float[Array, "B H2 W2 C"]:
  """Returns the maximum of each window of `size`, side by side.

  What is left at the bottom and at the right is not seen. Of equal inputs the
  first gets the gradient, as in XLA.
  """
  return nnx.max_pool(x, window_shape=size, strides=size)


def _forward(x, size):
  out = max_pool(x, size)
  return out, (x, out)


def _backward(size, kept, gradient):
  x, out = kept
  (rows, columns), (batch, height, width, features) = size, out.shape
  seen = x[:, : height * rows, : width * columns]
  taken = jnp.zeros(out.shape, bool)
  parts = []
  for row in range(rows):
    for column in range(columns):
      first = (seen[:, row::rows, column::columns] == out) & ~taken
      taken |= first
      parts.append(jnp.where(first, gradient, 0))
  woven = jnp.stack(parts).reshape(rows, columns, *out.shape)
  woven = woven.transpose(2, 3, 0, 4, 1, 5)
  woven = woven.reshape(batch, height * rows, width * columns, features)
  left = [(0, a - b) for a, b in zip(x.shape, woven.shape, strict=True)]
  return (jnp.pad(woven, left),)


max_pool.defvjp(_forward, _backward)
