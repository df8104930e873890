"""Images' levels and colours changed.

Numbers are in [-1, 1] and stay there; magnitudes are one for each image.
Blends with a factor are PIL's `ImageEnhance`: 0 is the other image, 1 the
image itself, more exaggerates it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from effarch.learning.augment import levels
from effarch.learning.augment.levels import per_image

Images = Float[Array, "B H W C"]
Each = Float[Array, " B"]
# How bright the eye sees red, green and blue (ITU-R 601-2).
_LUMA = (0.299, 0.587, 0.114)


def grey(images: Images) -> Float[Array, "B H W 1"]:
  """Returns how bright each pixel is.

  Raises:
    ValueError: there are neither 1 nor 3 channels.
  """
  channels = images.shape[-1]
  if channels not in (1, 3):
    raise ValueError(f"images: {channels} channels have no grey; 1 and 3 have")
  luma = jnp.array(_LUMA if channels == 3 else (1.0,), images.dtype)
  # A product: a sum's terms would be computed anew for each channel.
  weighted = jnp.einsum("bhwc,c->bhw", images, luma, precision="highest")
  return weighted[..., None]


def blend(other: jax.Array | float, images: Images, factor: Each) -> Images:
  """Goes from another image towards the image, and beyond."""
  factor = per_image(factor, images.ndim).astype(images.dtype)
  return jnp.clip(other + factor * (images - other), -1, 1)


def brightness(images: Images, factor: Each) -> Images:
  """Blends with black."""
  return blend(-1.0, images, factor)


def contrast(images: Images, factor: Each) -> Images:
  """Blends with the mean of grey."""
  return blend(grey(images).mean((1, 2, 3), keepdims=True), images, factor)


def saturation(images: Images, factor: Each) -> Images:
  """Blends with grey; PIL calls it `Color`."""
  return blend(grey(images), images, factor)


def sharpness(images: Images, factor: Each) -> Images:
  """Blends with what PIL's `SMOOTH` makes of the image."""
  return blend(smooth(images), images, factor)


def smooth(images: Images) -> Images:
  """Means over 3 x 3 pixels, the middle weighing 5 of 13; borders stay."""
  _, height, width, _ = images.shape
  if min(height, width) < 3:
    return images
  none = jnp.zeros((), images.dtype)
  rows = sum((images[:, i : height - 2 + i] for i in range(3)), none)
  total = sum((rows[:, :, i : width - 2 + i] for i in range(3)), none)
  inner = images[:, 1:-1, 1:-1]
  return images.at[:, 1:-1, 1:-1].set((total + 4 * inner) / 13)


def invert(images: Images) -> Images:
  """Makes black white."""
  return -images


def solarize(images: Images, threshold: Each) -> Images:
  """Inverts what is at or above a level in [0, 256]."""
  level = levels.encode(images).astype(jnp.float32)
  return jnp.where(level >= per_image(threshold, images.ndim), -images, images)


def posterize(images: Images, bits: Each) -> Images:
  """Keeps the first bits, a whole number in [0, 8], of each level."""
  step = 2 ** (8 - per_image(bits, images.ndim).astype(jnp.int32))
  level = levels.encode(images).astype(jnp.int32)
  return levels.decode((level // step * step).astype(jnp.uint8), images.dtype)


def autocontrast(images: Images) -> Images:
  """Stretches each channel over the whole range, unless it is all one."""
  low = images.min((1, 2), keepdims=True)
  high = images.max((1, 2), keepdims=True)
  width = jnp.where(high > low, high - low, 2)
  stretched = jnp.clip(2 * (images - low) / width - 1, -1, 1)
  return jnp.where(high > low, stretched, images)


def equalize(images: Images) -> Images:
  """Makes all 256 levels of each channel about equally frequent."""
  return levels.decode(levels.equalize(levels.encode(images)), images.dtype)


def blur(images: Images, sigma: Each, radius: int) -> Images:
  """Gaussian blur; the border's pixels continue outside.

  Args:
    images: to be blurred.
    sigma: the filter's width in pixels; 0 leaves an image as it is.
    radius: how many pixels each way the filter sees.
  """
  steps = jnp.arange(-radius, radius + 1)
  width = jnp.maximum(sigma, 1e-3)[:, None]
  weights = jnp.exp(-jnp.square(steps / width) / 2)
  weights = (weights / weights.sum(1, keepdims=True)).astype(images.dtype)
  for axis in (1, 2):
    margin = [(0, 0)] * images.ndim
    margin[axis] = (radius, radius)
    padded = jnp.pad(images, margin, mode="edge")
    size = images.shape[axis]
    parts = (
      per_image(weights[:, i], images.ndim)
      * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
      for i in range(2 * radius + 1)
    )
    images = sum(parts, jnp.zeros((), images.dtype))
  return jnp.clip(images, -1, 1)
