"""Colours and sharpness at random."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment import colour
from effarch.learning.augment.inputs import floats
from effarch.learning.checks import check_within

_JITTERS = ("brightness", "contrast", "saturation")
_LEAST_SIGMA = 0.1


@dataclasses.dataclass(frozen=True)
class ColourJitter(Technique):
  """Blends each image with black, its mean grey, and grey (arXiv:1409.4842).

  In this order, each with a factor between 1 less and 1 more the argument.

  Args:
    brightness: in [0, 1].
    contrast: in [0, 1].
    saturation: in [0, 1]; needs colours to do anything.
  """

  brightness: float = 0.4
  contrast: float = 0.4
  saturation: float = 0.4

  def __post_init__(self):
    for name in _JITTERS:
      check_within("[0, 1]", **{name: getattr(self, name)})

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    rngs = jax.random.split(rng, len(_JITTERS))
    for name, own in zip(_JITTERS, rngs, strict=True):
      if most := getattr(self, name):
        factor = jax.random.uniform(
          own, (len(images),), minval=1 - most, maxval=1 + most
        )
        images = getattr(colour, name)(images, factor)
    return {**batch, "inputs": images}


@dataclasses.dataclass(frozen=True)
class Blur(Technique):
  """Gaussian blur of some images (SimCLR, arXiv:2002.05709, appendix A).

  Args:
    probability: of each image to be blurred.
    max_sigma: the widest filter, in pixels; the narrowest is 0.1.
  """

  probability: float = 0.5
  max_sigma: float = 1.0

  def __post_init__(self):
    check_within("[0, 1]", probability=self.probability)
    if not self.max_sigma >= _LEAST_SIGMA:
      raise ValueError(
        f"max_sigma: {self.max_sigma} is less than {_LEAST_SIGMA}"
      )

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    if not self.probability:
      return batch
    chosen_rng, sigma_rng = jax.random.split(rng)
    shape = (len(images),)
    sigma = jax.random.uniform(
      sigma_rng, shape, minval=_LEAST_SIGMA, maxval=self.max_sigma
    )
    chosen = jax.random.bernoulli(chosen_rng, self.probability, shape)
    radius = math.ceil(3 * self.max_sigma)
    blurred = colour.blur(images, jnp.where(chosen, sigma, 0), radius)
    return {**batch, "inputs": blurred}
