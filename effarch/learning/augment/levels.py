"""Images of 256 levels, as they are stored and as PIL sees them."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped, UInt8

NUM_LEVELS = 256
_FLOAT = jnp.dtype("float32")
# Added before a number is rounded down, so that what would be a whole number
# becomes the same on all devices, whose last bits differ.
TIE = 2.0**-10


def encode(images: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
  """Returns the nearest level of each number in [-1, 1]."""
  return nearest((images + 1) * 127.5)


def nearest(levels: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
  """Returns whole levels; those out of range become the first or the last."""
  return (jnp.clip(levels, 0, NUM_LEVELS - 1) + (0.5 + TIE)).astype(jnp.uint8)


def decode(
  levels: UInt8[Array, "*shape"], dtype: jnp.dtype = _FLOAT
) -> Float[Array, "*shape"]:
  """Returns numbers in [-1, 1], bit for bit those that data is decoded to."""
  return (levels.astype(jnp.float32) / 127.5 - 1).astype(dtype)


def equalize(levels: UInt8[Array, "B H W C"]) -> UInt8[Array, "B H W C"]:
  """Makes all levels of each channel about equally frequent.

  Whole-number arithmetic, as PIL's `ImageOps.equalize`.
  """
  batch, *_, channels = levels.shape
  places = levels.reshape(batch, -1, channels).astype(jnp.int32)
  counts = jnp.zeros((batch, NUM_LEVELS, channels), jnp.int32)
  image = jnp.arange(batch)[:, None, None]
  channel = jnp.arange(channels)
  counts = counts.at[image, places, channel].add(1, mode="promise_in_bounds")
  before = jnp.cumsum(counts, 1) - counts
  # All pixels but those of the highest level.
  others = jnp.max(jnp.where(counts > 0, before, 0), 1, keepdims=True)
  step = others // (NUM_LEVELS - 1)
  equal = (before + step // 2) // jnp.maximum(step, 1)
  same = jnp.arange(NUM_LEVELS)[:, None]
  table = jnp.where(step > 0, jnp.minimum(equal, NUM_LEVELS - 1), same)
  found = jnp.take_along_axis(table, places, 1, mode="promise_in_bounds")
  return found.astype(jnp.uint8).reshape(levels.shape)


def per_image(value: Shaped[Array, " B"], ndim: int) -> Shaped[Array, "B ..."]:
  """Returns a value for each image in a shape that images can be met with."""
  return value.reshape(-1, *(1,) * (ndim - 1))
