"""One of many operations for each image."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from effarch.learning.augment import colour, geometry, levels

_MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_CHANGES = (
  "brightness",
  "contrast",
  "saturation",
  "sharpness",
  "invert",
  "solarize",
  "posterize",
  "autocontrast",
  "equalize",
)
OPERATIONS = ("identity", *_MOVES, *_CHANGES)
Levels = UInt8[Array, "B H W C"]


@dataclasses.dataclass(frozen=True)
class Ranges:
  """What the operations do at strength one.

  Args:
    degrees: of rotation.
    shear: pixels a pixel.
    pixels: of translation.
    factor: of blends, from 1.
    bits: that posterizing takes of 8.
  """

  degrees: float = 30.0
  shear: float = 0.3
  pixels: float = 10.0
  factor: float = 0.9
  bits: int = 4


def operate(
  images: Levels,
  operations: Int[Array, "N B"],
  strengths: Float[Array, "N B"],
  ranges: Ranges,
  fill: int,
) -> Levels:
  """Does operations to each image, one after another.

  Args:
    images: levels.
    operations: places in `OPERATIONS`.
    strengths: in [-1, 1]; at 0 nothing changes, but for the operations that
      have no strength: to invert, stretch and equalize.
    ranges: what strength one is.
    fill: the level that comes into an image.
  """

  # A loop computes what an image asks for; all at once, they get all that any
  # could ask for and choose, which is faster where there are threads for it.
  loops = jax.default_backend() == "cpu"

  def all_of_one(given):
    def one(image, asked):
      operation, strength = asked
      return _operate(image, operation, strength[None], ranges, fill), None

    image, *asked = given
    image, _ = jax.lax.scan(one, image[None], tuple(asked), unroll=not loops)
    return image[0]

  each = images, operations.T, strengths.T
  return jax.lax.map(all_of_one, each) if loops else jax.vmap(all_of_one)(each)


def _operate(images, operation, strength, ranges, fill):
  """Does one operation to one image, `1 H W C`."""
  factor = 1 + ranges.factor * strength
  threshold = levels.NUM_LEVELS * (1 - jnp.abs(strength))
  bits = 8 - jnp.round(ranges.bits * jnp.abs(strength))
  changes = (
    lambda x: colour.brightness(x, factor),
    lambda x: colour.contrast(x, factor),
    lambda x: colour.saturation(x, factor),
    lambda x: colour.sharpness(x, factor),
    colour.invert,
    lambda x: colour.solarize(x, threshold),
    lambda x: colour.posterize(x, bits),
    colour.autocontrast,
  )

  def move(images):
    matrices = _matrices(images, operation, strength, ranges)
    return geometry.affine(images, matrices, fill=fill)

  def change(function):
    return lambda images: levels.encode(function(levels.decode(images)))

  branches = (
    lambda images: images,
    move,
    *map(change, changes),
    levels.equalize,
  )
  # All that move pixels are one.
  branch = jnp.where(operation > 0, jnp.maximum(operation - 4, 1), 0)
  return jax.lax.switch(branch, branches, images)


def _matrices(images, operation, strength, ranges):
  def where(name, value):
    return jnp.where(operation == OPERATIONS.index(name), value, 0.0)

  sheared = geometry.shearing(
    where("shear_y", ranges.shear * strength),
    where("shear_x", ranges.shear * strength),
  )
  pixels = jnp.round(ranges.pixels * strength)
  moved = geometry.translation(
    where("translate_y", pixels), where("translate_x", pixels)
  )
  turned = geometry.rotation(
    where("rotate", ranges.degrees * strength),
    (images.shape[1] / 2, images.shape[2] / 2),
  )
  # Two of the three are the identity.
  return sheared + moved + turned - 2 * jnp.eye(2, 3)
