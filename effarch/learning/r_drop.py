"""R-Drop: two passes with different dropout shall agree (arXiv:2106.14448)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from effarch.infrastructure.training import LossFn, Technique
from effarch.learning.watched import Watched


@dataclasses.dataclass(frozen=True)
class RDrop(Technique):
  """Adds how much two passes differ to their mean loss.

  The sum of the paper's two losses is halved, so that the rate keeps its
  meaning. A step costs two; without dropout nothing is gained.

  Args:
    weight: of the Kullback-Leibler divergences' mean, in nats; 0 changes
      nothing.
  """

  weight: float = 1.0

  def __post_init__(self):
    if not 0 <= self.weight < math.inf:
      raise ValueError(f"weight: {self.weight} is not in [0, inf)")

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.weight:
      return loss_fn

    def twice(model, batch):
      watched = Watched(model)
      first, metrics = loss_fn(watched, batch)
      one = watched.logits
      second, _ = loss_fn(watched, batch)
      apart = divergence(one, watched.logits)
      apart = apart.reshape(len(apart), -1).mean(-1)
      return (first + second + self.weight * apart) / 2, metrics

    return twice


def divergence(
  one: Float[Array, "*B K"], other: Float[Array, "*B K"]
) -> Float[Array, "*B"]:
  """Returns the mean of both Kullback-Leibler divergences, in nats."""
  one, other = jax.nn.log_softmax(one), jax.nn.log_softmax(other)
  return jnp.sum((jnp.exp(one) - jnp.exp(other)) * (one - other), -1) / 2
