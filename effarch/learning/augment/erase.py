"""Rectangles of images erased."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.inputs import floats
from effarch.learning.checks import check_within

_GREY = 0.0
_ATTEMPTS = 10


def rectangles(
  shape: tuple[int, int],
  corners: Int[Array, "B 2"],
  sizes: Int[Array, "B 2"],
) -> Bool[Array, "B H W"]:
  """Returns which pixels lie in a rectangle.

  Args:
    shape: height and width of images.
    corners: the first row and column, in or out of the image.
    sizes: how many rows and columns.
  """
  inside = [
    (jnp.arange(side) >= corners[:, axis, None])
    & (jnp.arange(side) < (corners + sizes)[:, axis, None])
    for axis, side in enumerate(shape)
  ]
  return inside[0][:, :, None] & inside[1][:, None, :]


def cutout(
  images: Float[Array, "B H W C"],
  rng: Key[Array, ""],
  size: int,
  fill: float = _GREY,
) -> Float[Array, "B H W C"]:
  """Fills a square around a random pixel of each image, cut at its borders."""
  _, height, width, _ = images.shape
  most = jnp.array([height, width])
  middles = jax.random.randint(rng, (len(images), 2), 0, most)
  sizes = jnp.full_like(middles, size)
  erased = rectangles((height, width), middles - size // 2, sizes)
  return jnp.where(erased[..., None], jnp.asarray(fill, images.dtype), images)


@dataclasses.dataclass(frozen=True)
class Cutout(Technique):
  """Cutout (arXiv:1708.04552): each image loses a square.

  Args:
    size: the square's side in pixels; 0 is off.
    fill: what fills it; 0 is grey.
  """

  size: int = 16
  fill: float = _GREY

  def __post_init__(self):
    check_within("[0, inf)", size=self.size)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = cutout(floats(self, batch, "images"), rng, self.size, self.fill)
    return {**batch, "inputs": images}


def random_boxes(
  rng: Key[Array, ""],
  number: int,
  shape: tuple[int, int],
  areas: tuple[float, float],
  max_aspect: float,
) -> tuple[Int[Array, "B 2"], Int[Array, "B 2"]]:
  """Draws rectangles that lie in an image, of ten tries the first that does.

  Args:
    rng: of areas, aspects and places.
    number: of rectangles, `B`.
    shape: height and width of images.
    areas: the least and the largest share of the image.
    max_aspect: the longer side by the shorter, at most.

  Returns:
    Corners, and sizes that are 0 where no try was one.
  """
  area_rng, aspect_rng, corner_rng = jax.random.split(rng, 3)
  tries = (number, _ATTEMPTS)
  area = math.prod(shape) * jax.random.uniform(
    area_rng, tries, minval=areas[0], maxval=areas[1]
  )
  most = math.log(max_aspect)
  aspect = jnp.exp(
    jax.random.uniform(aspect_rng, tries, minval=-most, maxval=most)
  )
  sizes = jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect], -1)))
  fits = (sizes < jnp.array(shape)).all(-1)
  first = jnp.argmax(fits, 1)[:, None, None]
  sizes = jnp.take_along_axis(sizes, first, 1)[:, 0].astype(jnp.int32)
  sizes = jnp.where(fits.any(1, keepdims=True), sizes, 0)
  room = jnp.array(shape) - sizes + 1
  return jax.random.randint(corner_rng, sizes.shape, 0, room), sizes


def random_erasing(
  images: Float[Array, "B H W C"],
  rng: Key[Array, ""],
  probability: float = 0.5,
  min_area: float = 0.02,
  max_area: float = 0.4,
  max_aspect: float = 3.3,
) -> Float[Array, "B H W C"]:
  """Fills a rectangle of some images with noise; see `RandomErasing`."""
  chosen_rng, box_rng, noise_rng = jax.random.split(rng, 3)
  number, height, width, _ = images.shape
  shape = height, width
  chosen = jax.random.bernoulli(chosen_rng, probability, (number, 1))
  corners, sizes = random_boxes(
    box_rng, number, shape, (min_area, max_area), max_aspect
  )
  erased = rectangles(shape, corners, jnp.where(chosen, sizes, 0))
  noise = jax.random.uniform(
    noise_rng, images.shape, images.dtype, minval=-1, maxval=1
  )
  return jnp.where(erased[..., None], noise, images)


@dataclasses.dataclass(frozen=True)
class RandomErasing(Technique):
  """Random erasing (arXiv:1708.04896): rectangles of noise.

  The aspect is drawn so that `a` and `1 / a` are as likely.

  Args:
    probability: of each image to be erased in.
    min_area: the least share of an image.
    max_area: the largest.
    max_aspect: the longer side by the shorter, at most.
  """

  probability: float = 0.5
  min_area: float = 0.02
  max_area: float = 0.4
  max_aspect: float = 3.3

  def __post_init__(self):
    check_within("[0, 1]", probability=self.probability, max_area=self.max_area)
    if not 0 <= self.min_area <= self.max_area:
      raise ValueError(
        f"min_area: {self.min_area} is not in [0, {self.max_area}]"
      )
    if not self.max_aspect >= 1:
      raise ValueError(f"max_aspect: {self.max_aspect} is less than 1")

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    images = random_erasing(images, rng, **dataclasses.asdict(self))
    return {**batch, "inputs": images}
