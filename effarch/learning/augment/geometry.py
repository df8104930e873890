"""Images turned, sheared and moved by one affine resampler.

Coordinates are PIL's: `(0, 0)` is the first pixel's corner, pixel `i` reaches
from `i` to `i + 1`. A matrix `[[yy, yx, y], [xy, xx, x]]` leads from a place
in the result to that place in the image which is seen there.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.inputs import floats
from effarch.learning.augment.levels import TIE
from effarch.learning.checks import check_within

BLACK = -1.0


def affine(
  images: Num[Array, "B H W C"],
  matrices: Float[Array, "B 2 3"],
  *,
  fill: float | int = BLACK,
  bilinear: bool = False,
) -> Num[Array, "B H W C"]:
  """Resamples each image.

  Args:
    images: of any type of number.
    matrices: from places in the result to places in the image.
    fill: what lies around the image.
    bilinear: mixes the four nearest pixels; else the nearest is taken, as PIL
      and the papers of augmentation policies do.
  """
  _, height, width, _ = images.shape
  y = jnp.arange(height)[:, None] + 0.5
  x = jnp.arange(width) + 0.5
  down, right = (
    row[:, 0, None, None] * y
    + row[:, 1, None, None] * x
    + row[:, 2, None, None]
    for row in (matrices[:, 0], matrices[:, 1])
  )
  if not bilinear:
    return _pixels(images, down + TIE, right + TIE, fill)
  down, right = down - 0.5, right - 0.5
  top, left = jnp.floor(down), jnp.floor(right)
  below, beside = (down - top)[..., None], (right - left)[..., None]

  def row(at):
    one, next_one = (_pixels(images, at, left + i, fill) for i in (0, 1))
    return one + beside * (next_one - one)

  upper, lower = row(top), row(top + 1)
  return (upper + below * (lower - upper)).astype(images.dtype)


def _pixels(images, down, right, fill):
  """Returns the pixels in which places lie, `B H W C`."""
  batch, height, width, channels = images.shape
  inside = (down >= 0) & (down < height) & (right >= 0) & (right < width)
  # Places inside are positive, so a conversion rounds them down.
  row = jnp.clip(down, 0, height - 1).astype(jnp.int32)
  column = jnp.clip(right, 0, width - 1).astype(jnp.int32)
  found = jnp.take_along_axis(
    images.reshape(batch, -1, channels),
    (row * width + column).reshape(batch, -1, 1),
    axis=1,
    mode="promise_in_bounds",
  )
  outside = jnp.asarray(fill, images.dtype)
  return jnp.where(inside[..., None], found.reshape(images.shape), outside)


def rotation(
  degrees: Float[Array, " B"], centre: tuple[float, float]
) -> Float[Array, "B 2 3"]:
  """Returns matrices that turn images counterclockwise about `(y, x)`."""
  angle = jnp.deg2rad(degrees)
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  return _about(jnp.stack([cosine, sine, -sine, cosine], -1), centre)


def shearing(
  y: Float[Array, " B"],
  x: Float[Array, " B"],
  centre: tuple[float, float] = (0.0, 0.0),
) -> Float[Array, "B 2 3"]:
  """Returns matrices that move columns by `y` and rows by `x` a pixel.

  Args:
    y: pixels up for each pixel to the right of `centre`.
    x: pixels to the left for each pixel below `centre`.
    centre: what stays, `(y, x)`.
  """
  one = jnp.ones_like(y)
  return _about(jnp.stack([one, y, x, one], -1), centre)


def translation(
  y: Float[Array, " B"], x: Float[Array, " B"]
) -> Float[Array, "B 2 3"]:
  """Returns matrices that move images by `y` pixels up and `x` to the left."""
  linear = jnp.broadcast_to(jnp.eye(2), (len(y), 2, 2))
  return jnp.concatenate([linear, jnp.stack([y, x], -1)[..., None]], -1)


def _about(flat, centre):
  """Returns `B 4` numbers as matrices that leave the centre in its place."""
  linear = flat.reshape(-1, 2, 2)
  place = jnp.asarray(centre, linear.dtype)
  # Elementwise, since a product may have few bits on an accelerator.
  offset = place - (linear * place).sum(-1)
  return jnp.concatenate([linear, offset[..., None]], -1)


def rotate(
  images: Float[Array, "B H W C"],
  degrees: Float[Array, " B"],
  *,
  fill: float = BLACK,
  bilinear: bool = True,
) -> Float[Array, "B H W C"]:
  """Turns each image counterclockwise about its middle."""
  matrices = rotation(degrees, _middle(images))
  return affine(images, matrices, fill=fill, bilinear=bilinear)


def shear(
  images: Float[Array, "B H W C"],
  y: Float[Array, " B"],
  x: Float[Array, " B"],
  *,
  fill: float = BLACK,
  bilinear: bool = True,
) -> Float[Array, "B H W C"]:
  """Shears each image about its middle, as `shearing` tells."""
  matrices = shearing(y, x, _middle(images))
  return affine(images, matrices, fill=fill, bilinear=bilinear)


def _middle(images):
  return images.shape[1] / 2, images.shape[2] / 2


@dataclasses.dataclass(frozen=True)
class Rotate(Technique):
  """Turns each image by a random angle.

  Args:
    max_degrees: the largest angle, each way.
    fill: what comes into the image; -1 is black.
  """

  max_degrees: float = 15.0
  fill: float = BLACK

  def __post_init__(self):
    check_within("[0, inf)", max_degrees=self.max_degrees)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    if not self.max_degrees:
      return batch
    degrees = _symmetric(rng, (len(images),), self.max_degrees)
    return {**batch, "inputs": rotate(images, degrees, fill=self.fill)}


@dataclasses.dataclass(frozen=True)
class Shear(Technique):
  """Shears each image at random, along one axis and then the other.

  Args:
    max_shear: the largest slope, each way.
    fill: what comes into the image; -1 is black.
  """

  max_shear: float = 0.2
  fill: float = BLACK

  def __post_init__(self):
    check_within("[0, inf)", max_shear=self.max_shear)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    if not self.max_shear:
      return batch
    y, x = _symmetric(rng, (2, len(images)), self.max_shear)
    return {**batch, "inputs": shear(images, y, x, fill=self.fill)}


def _symmetric(rng, shape, most):
  return jax.random.uniform(rng, shape, minval=-most, maxval=most)
