"""The worst of several augmented versions of each image."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from effarch.infrastructure.training import Batch, LossFn, Technique
from effarch.learning.augment.inputs import floats
from effarch.learning.augment.policies import rand_augment
from effarch.learning.checks import check_within

_ENTRY = "worst_case"


@dataclasses.dataclass(frozen=True)
class WorstCase(Technique):
  """Trains on that version of each image whose loss is largest.

  As in MaxUp (arXiv:2002.09024) and AugMax (arXiv:2110.13771), which searches
  its mixtures by gradients; here RandAugment draws the versions. The choice
  has no gradient, and leaves the model's running statistics and random
  numbers as they were. Images are augmented after all other techniques of the
  batch, whatever their order.

  Args:
    num_versions: of each image; each costs a forward pass.
    num_ops: RandAugment's operations; 0 is off.
    magnitude: RandAugment's, in [0, 30].
  """

  num_versions: int = 3
  num_ops: int = 2
  magnitude: float = 9.0

  def __post_init__(self):
    check_within("[1, inf)", num_versions=self.num_versions)
    check_within("[0, inf)", num_ops=self.num_ops)
    check_within("[0, 30]", magnitude=self.magnitude)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    floats(self, batch, "images")
    return {**batch, _ENTRY: rng}

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.num_ops:
      return loss_fn

    def worst(model, batch):
      images = batch["inputs"]
      shape = (self.num_versions, *images.shape)
      versions = jnp.broadcast_to(images, shape).reshape(-1, *shape[2:])
      versions = rand_augment(
        versions, batch[_ENTRY], self.num_ops, self.magnitude
      ).reshape(shape)
      graphdef, state = nnx.split(model)
      state = jax.lax.stop_gradient(state)

      def losses(version):
        copied = nnx.merge(graphdef, state, copy=True)
        return loss_fn(copied, {**batch, "inputs": version})[0]

      chosen = jnp.argmax(jnp.stack([losses(v) for v in versions]), 0)
      hardest = versions[chosen, jnp.arange(len(images))]
      return loss_fn(model, {**batch, "inputs": hardest})

    return worst
