"""Images mirrored and moved by whole pixels."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.inputs import floats
from effarch.learning.checks import check_within


def flip(
  images: Float[Array, "B H W C"], rng: Key[Array, ""]
) -> Float[Array, "B H W C"]:
  """Mirrors each image left to right with probability one half."""
  mirrored = jax.random.bernoulli(rng, shape=(len(images), 1, 1, 1))
  return jnp.where(mirrored, images[:, :, ::-1], images)


def translate(
  images: Float[Array, "B H W C"], rng: Key[Array, ""], max_shift: int
) -> Float[Array, "B H W C"]:
  """Moves each image by up to `max_shift` pixels a side, black moving in."""
  batch, height, width, channels = images.shape
  margin = ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0))
  padded = jnp.pad(images, margin, constant_values=-1.0)  # Black is -1.
  offsets = jax.random.randint(rng, (batch, 2), 0, 2 * max_shift + 1)

  def crop(image, offset):
    start = (offset[0], offset[1], 0)
    return jax.lax.dynamic_slice(image, start, (height, width, channels))

  return jax.vmap(crop)(padded, offsets)


@dataclasses.dataclass(frozen=True)
class FlipTranslate(Technique):
  """Horizontal flip and translation, the survey's augmentation.

  Args:
    horizontal_flip: mirrors half of the images.
    max_shift: the largest translation in pixels, each way.
  """

  horizontal_flip: bool = True
  max_shift: int = 3

  def __post_init__(self):
    check_within("[0, inf)", max_shift=self.max_shift)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    flip_rng, shift_rng = jax.random.split(rng)
    images = floats(self, batch, "images")
    if self.horizontal_flip:
      images = flip(images, flip_rng)
    if self.max_shift:
      images = translate(images, shift_rng, self.max_shift)
    return {**batch, "inputs": images}


def alternating(
  index: Int[Array, " B"], progress: Float[Array, ""], epochs: int, seed: int
) -> Bool[Array, " B"]:
  """Returns whether each example is mirrored in this epoch.

  Args:
    index: the examples' places in the data.
    progress: the share of the training that is done.
    epochs: of the training.
    seed: of whether an example is mirrored in the first epoch.
  """
  key = jax.random.key(seed)
  own = jax.vmap(lambda place: jax.random.fold_in(key, place))(index)
  first = jax.vmap(jax.random.bernoulli)(own)
  # At an epoch's first step the product may lack its last bit.
  epoch = jnp.floor(progress * epochs * (1 + 2**-22)).astype(jnp.int32)
  return first ^ (epoch % 2 == 1)


@dataclasses.dataclass(frozen=True)
class AlternatingFlip(Technique):
  """Mirrors every image each second epoch (airbench, arXiv:2404.00498).

  In the first epoch half of the images are mirrored, and then those that were
  not in the epoch before. So two epochs show all images both ways, where
  random flips show a quarter of them twice.

  Args:
    epochs: of the training, by which its progress tells the epoch.
    seed: of the first epoch's half.
  """

  epochs: int
  seed: int = 0

  def __post_init__(self):
    check_within("[1, inf)", epochs=self.epochs)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    mirrored = alternating(
      batch["index"], batch["progress"], self.epochs, self.seed
    )[:, None, None, None]
    images = jnp.where(mirrored, images[:, :, ::-1], images)
    return {**batch, "inputs": images}
