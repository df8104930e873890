"""R-Drop: two passes with different dropout shall agree (arXiv:2106.14448)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from effarch.infrastructure.training import LossFn, Technique
from effarch.learning.checks import check_within
from effarch.learning.watch import complete, watch


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
    check_within("[0, inf)", weight=self.weight)

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.weight:
      return loss_fn

    def twice(model, batch):
      with watch(model, [""]) as seen:
        first, metrics = loss_fn(model, batch)
        one = complete(seen, [""])[""]
        second, _ = loss_fn(model, batch)
      apart = divergence(one, seen[""])
      apart = apart.reshape(len(apart), -1).mean(-1)
      return (first + second + self.weight * apart) / 2, metrics

    return twice


def divergence(
  one: Float[Array, "*B K"], other: Float[Array, "*B K"]
) -> Float[Array, "*B"]:
  """Returns the mean of both Kullback-Leibler divergences, in nats."""
  one, other = jax.nn.log_softmax(one), jax.nn.log_softmax(other)
  return jnp.sum((jnp.exp(one) - jnp.exp(other)) * (one - other), -1) / 2
