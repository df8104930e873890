"""Learning from what a teacher says: its logits, and labels made of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from effarch.config import did_you_mean
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import Batch, LossFn
from effarch.learning.checks import check_within
from effarch.learning.distill import losses
from effarch.learning.distill.teacher import TaughtLogits
from effarch.learning.watch import complete, watch

OBJECTIVES = {
  "soft_labels": lambda own, s, t, labels: losses.soft_labels(
    s, t, own.temperature
  ),
  "logits": lambda own, s, t, labels: losses.logit_matching(s, t),
  "decoupled": lambda own, s, t, labels: losses.decoupled(
    s, t, labels, own.temperature, own.beta
  ),
}


@dataclasses.dataclass(frozen=True)
class Distill(TaughtLogits):
  """Trains on `(1 - alpha) loss + alpha objective(student, teacher)`.

  By default that is distillation by soft labels (arXiv:1503.02531) of the very
  inputs that the student sees. A teacher that is an earlier run of the same
  model makes it born-again (arXiv:1805.04770), one that was itself distilled a
  chain of assistants (arXiv:1902.03393).

  Args:
    objective: `"soft_labels"`, `"logits"` or `"decoupled"`; see `losses`.
    alpha: in [0, 1], the teacher's share; 0 asks no teacher.
    temperature: of both softmaxes.
    beta: of `"decoupled"`.
  """

  objective: str = "soft_labels"
  alpha: float = 0.9
  temperature: float = 4.0
  beta: float = 8.0

  def __post_init__(self):
    super().__post_init__()
    if self.objective not in OBJECTIVES:
      hint = did_you_mean(str(self.objective), OBJECTIVES)
      raise ValueError(f"objective: {self.objective!r} is unknown; {hint}")
    check_within("[0, 1]", alpha=self.alpha)
    check_within("(0, inf)", temperature=self.temperature)
    check_within("[0, inf)", beta=self.beta)

  def constants(self, train: Dataset) -> dict[str, Any]:
    return super().constants(train) if self.alpha else {}

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.alpha:
      return loss_fn

    def distilled(model, batch):
      with watch(model, [""]) as seen:
        plain, metrics = loss_fn(model, batch)
      student, labels = complete(seen, [""])[""], batch["labels"]
      objective = OBJECTIVES[self.objective]
      distance = objective(self, student, self.logits(batch), labels)
      distance = mean_asked(distance, labels)
      return (1 - self.alpha) * plain + self.alpha * distance, metrics

    return distilled


@dataclasses.dataclass(frozen=True)
class PseudoLabels(TaughtLogits):
  """Labels examples without a label as the class the teacher is sure of.

  Their labels are all zeros. The teacher sees inputs as they are at this place
  among the techniques: listed between weak and strong augmentation it labels
  the weak one (as in FixMatch, arXiv:2001.07685).

  Args:
    threshold: in [0, 1], the least probability that makes a label; where it
      is not reached nothing is asked.
  """

  threshold: float = 0.95

  def __post_init__(self):
    super().__post_init__()
    check_within("[0, 1]", threshold=self.threshold)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    del rng
    labels = batch["labels"]
    p = jax.nn.softmax(self.logits(batch))
    made = jax.nn.one_hot(p.argmax(-1), p.shape[-1], dtype=labels.dtype)
    made *= p.max(-1, keepdims=True) >= self.threshold
    asked = labels.any(range(1, labels.ndim), keepdims=True)
    return {**batch, "labels": jnp.where(asked, labels, made)}


def mean_asked(
  values: Float[Array, "B ..."], labels: Float[Array, "B *T K"]
) -> Float[Array, " B"]:
  """Returns each example's number, of tokens the mean where one is asked."""
  if values.ndim == 1:
    return values
  asked = labels.any(-1)
  shares = asked / jnp.maximum(asked.sum(-1, keepdims=True), 1)
  return (values * shares).sum(-1)
