"""Examples mixed with others of their batch, and their labels likewise.

A batch is in random order, so each example's partner is its neighbour, and the
first's is the last.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.erase import rectangles
from effarch.learning.augment.inputs import (
  classes,
  floats,
)
from effarch.learning.checks import check_within

_QUANTILES = 4096


def shares(
  rng: Key[Array, ""], number: int, alpha: float
) -> Float[Array, " B"]:
  """Draws from `Beta(alpha, alpha)`, from a table of its quantiles.

  Rejection would need a loop, and could end otherwise on another device.
  """
  middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
  table = jnp.asarray(
    scipy.special.betaincinv(alpha, alpha, middles), jnp.float32
  )
  return table[jax.random.randint(rng, (number,), 0, _QUANTILES)]


def mixup(
  inputs: Float[Array, "B ..."], share: Float[Array, " B"]
) -> Float[Array, "B ..."]:
  """Returns `share x + (1 - share) y` for each and its partner."""
  share = share.reshape(-1, *(1,) * (inputs.ndim - 1)).astype(inputs.dtype)
  return share * inputs + (1 - share) * jnp.roll(inputs, 1, 0)


def cutmix(
  images: Float[Array, "B H W C"],
  rng: Key[Array, ""],
  share: Float[Array, " B"],
) -> tuple[Float[Array, "B H W C"], Float[Array, " B"]]:
  """Puts a rectangle of the partner in its place in each image.

  Args:
    images: in any range.
    rng: of the rectangles' middles.
    share: how much of each image stays, before borders cut the rectangle.

  Returns:
    The images, and how much of each has stayed.
  """
  _, height, width, _ = images.shape
  shape = jnp.array([height, width])
  side = jnp.sqrt(1 - share)[:, None]
  sizes = (side * shape).astype(jnp.int32)
  middles = jax.random.randint(rng, sizes.shape, 0, shape)
  pasted = rectangles((height, width), middles - sizes // 2, sizes)
  stays = 1 - pasted.mean((1, 2), dtype=jnp.float32)
  mixed = jnp.where(pasted[..., None], jnp.roll(images, 1, 0), images)
  return mixed, stays


@dataclasses.dataclass(frozen=True)
class Mixup(Technique):
  """Mixup (arXiv:1710.09412), a share of its own for each example.

  Args:
    alpha: of the shares' distribution `Beta(alpha, alpha)`; 0 is off.
  """

  alpha: float = 0.2

  def __post_init__(self):
    check_within("[0, inf)", alpha=self.alpha)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    inputs = floats(self, batch, "floats")
    labels = classes(self, batch)
    if not self.alpha:
      return batch
    share = shares(rng, len(inputs), self.alpha)
    mixed, labels = mixup(inputs, share), mixup(labels, share)
    return {**batch, "inputs": mixed, "labels": labels}


@dataclasses.dataclass(frozen=True)
class CutMix(Technique):
  """CutMix (arXiv:1905.04899), a rectangle of its own for each image.

  Args:
    alpha: of the shares' distribution `Beta(alpha, alpha)`; 0 is off.
  """

  alpha: float = 1.0

  def __post_init__(self):
    check_within("[0, inf)", alpha=self.alpha)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    labels = classes(self, batch)
    if not self.alpha:
      return batch
    share_rng, box_rng = jax.random.split(rng)
    share = shares(share_rng, len(images), self.alpha)
    images, share = cutmix(images, box_rng, share)
    return {**batch, "inputs": images, "labels": mixup(labels, share)}


@dataclasses.dataclass(frozen=True)
class MixupCutMix(Technique):
  """Mixup for some images and CutMix for the others, as in DeiT's recipe.

  Paper: arXiv:2012.12877.

  Args:
    mixup_alpha: of mixup's shares; 0 leaves its images as they are.
    cutmix_alpha: of CutMix's; 0 leaves its images as they are.
    cutmix_probability: of each image to get CutMix.
  """

  mixup_alpha: float = 0.8
  cutmix_alpha: float = 1.0
  cutmix_probability: float = 0.5

  def __post_init__(self):
    check_within(
      "[0, inf)", mixup_alpha=self.mixup_alpha, cutmix_alpha=self.cutmix_alpha
    )
    check_within("[0, 1]", cutmix_probability=self.cutmix_probability)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = floats(self, batch, "images")
    classes(self, batch)
    choice_rng, mixup_rng, cutmix_rng = jax.random.split(rng, 3)
    one = Mixup(self.mixup_alpha).batch(batch, mixup_rng)
    other = CutMix(self.cutmix_alpha).batch(batch, cutmix_rng)
    chosen = jax.random.bernoulli(
      choice_rng, self.cutmix_probability, (len(images),)
    )

    def choose(name):
      each = chosen.reshape(-1, *(1,) * (batch[name].ndim - 1))
      return jnp.where(each, other[name], one[name])

    return {**batch, "inputs": choose("inputs"), "labels": choose("labels")}
