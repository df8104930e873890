"""Image augmentation inside the compiled step, vectorized over the batch."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from effarch.infrastructure.training import Batch, Technique


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
    if self.max_shift < 0:
      raise ValueError(f"max_shift: {self.max_shift} is negative")

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    flip_rng, shift_rng = jax.random.split(rng)
    images = batch["inputs"]
    if self.horizontal_flip:
      images = flip(images, flip_rng)
    if self.max_shift:
      images = translate(images, shift_rng, self.max_shift)
    return {**batch, "inputs": images}
