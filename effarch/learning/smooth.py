"""Label smoothing (arXiv:1512.00567, section 7)."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import optax

from effarch.infrastructure.training import LossFn, Technique
from effarch.learning.checks import check_within


@dataclasses.dataclass(frozen=True)
class LabelSmoothing(Technique):
  """Trains on `(1 - smoothing) label + smoothing / K` over `K` classes.

  Args:
    smoothing: in [0, 1); the share that is spread over all classes.
  """

  smoothing: float = 0.1

  def __post_init__(self):
    check_within("[0, 1)", smoothing=self.smoothing)

  def loss(self, loss_fn: LossFn) -> LossFn:
    def smoothed(model, batch):
      given = batch["labels"]
      labels = optax.smooth_labels(given, self.smoothing)
      # Where nothing is asked nothing is smoothed.
      labels = jnp.where(given.any(-1, keepdims=True), labels, 0)
      return loss_fn(model, {**batch, "labels": labels})

    return smoothed
