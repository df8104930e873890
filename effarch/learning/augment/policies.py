"""Random operations, from policies that were searched or need no search.

Images are rounded to 256 levels, as PIL's are, and pixels are moved whole.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment import levels
from effarch.learning.augment.inputs import floats
from effarch.learning.augment.operations import (
  OPERATIONS,
  Ranges,
  operate,
)
from effarch.learning.checks import check_within

Images = Float[Array, "B H W C"]
_INVERT = OPERATIONS.index("invert")
# The 14 of RandAugment and TrivialAugment: all but to invert.
_FOURTEEN = np.array([k for k in range(len(OPERATIONS)) if k != _INVERT])
_GREY, _BLACK = 128, 0
_BINS = 30
_WIDE = Ranges(degrees=135.0, shear=0.99, pixels=32.0, factor=0.99, bits=6)


def rand_augment(
  images: Images,
  rng: Key[Array, ""],
  num_ops: int = 2,
  magnitude: float = 9.0,
  max_translation: float = 10.0,
) -> Images:
  """Does `num_ops` random operations, one after another, to each image.

  Args:
    images: in [-1, 1], of 1 or 3 channels.
    rng: of operations and directions.
    num_ops: how many.
    magnitude: in [0, 30], how strong.
    max_translation: pixels at magnitude 30.
  """
  if not num_ops:
    return images
  operation_rng, sign_rng = jax.random.split(rng)
  shape = (num_ops, len(images))
  operations = jax.random.choice(operation_rng, _FOURTEEN, shape)
  strengths = magnitude / _BINS * jax.random.rademacher(sign_rng, shape, float)
  found = levels.encode(images)
  ranges = Ranges(pixels=max_translation)
  found = operate(found, operations, strengths, ranges, _GREY)
  return levels.decode(found, images.dtype)


@dataclasses.dataclass(frozen=True)
class RandAugment(Technique):
  """RandAugment (arXiv:1909.13719): random operations of one magnitude.

  What leaves an image makes room for grey, as in the authors' code. Blends
  with a factor go either way from 1, so that magnitude 0 is weakest.

  Args:
    num_ops: for each image, one after another; 0 is off.
    magnitude: in [0, 30].
    max_translation: pixels at magnitude 30; 10 is for images of 32 pixels.
  """

  num_ops: int = 2
  magnitude: float = 9.0
  max_translation: float = 10.0

  def __post_init__(self):
    check_within("[0, inf)", num_ops=self.num_ops)
    if not 0 <= self.magnitude <= _BINS:
      raise ValueError(f"magnitude: {self.magnitude} is not in [0, {_BINS}]")
    check_within("[0, inf)", max_translation=self.max_translation)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = rand_augment(
      floats(self, batch, "images"), rng, **dataclasses.asdict(self)
    )
    return {**batch, "inputs": images}


def trivial_augment(images: Images, rng: Key[Array, ""]) -> Images:
  """Does one random operation to each image, of random strength.

  Args:
    images: in [-1, 1], of 1 or 3 channels.
    rng: of operations, strengths and directions.
  """
  operation_rng, strength_rng, sign_rng = jax.random.split(rng, 3)
  shape = (len(images),)
  operation = jax.random.choice(operation_rng, _FOURTEEN, shape)
  strength = jax.random.randint(strength_rng, shape, 0, _BINS + 1) / _BINS
  strength *= jax.random.rademacher(sign_rng, shape, float)
  found = operate(
    levels.encode(images), operation[None], strength[None], _WIDE, _BLACK
  )
  return levels.decode(found, images.dtype)


@dataclasses.dataclass(frozen=True)
class TrivialAugment(Technique):
  """TrivialAugment, its wide space (arXiv:2103.10158): nothing to be tuned."""

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = trivial_augment(floats(self, batch, "images"), rng)
    return {**batch, "inputs": images}
