"""Schedule-free training (arXiv:2405.15682)."""

from __future__ import annotations

import dataclasses

import optax

from effarch.infrastructure.training import State, Technique, Weights
from effarch.learning.checks import check_within


@dataclasses.dataclass(frozen=True)
class ScheduleFree(Technique):
  """An average of weights in place of a schedule and of momentum.

  Gradients are of weights between the optimizer's own and the average of all
  those, which is judged and shipped. Take the schedule `constant` and an
  optimizer without momentum: `sgd`, or `adamw` with `b1` of 0.

  Args:
    momentum: in (0, 1); the part of the way to the average.
  """

  momentum: float = 0.9

  def __post_init__(self):
    check_within("(0, 1)", momentum=self.momentum)

  def optimizer(
    self, tx: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    # With this power all steps count the same, whatever their rate.
    return optax.contrib.schedule_free(
      tx, learning_rate=1.0, b1=self.momentum, weight_lr_power=0.0
    )

  def average(
    self, before: Weights, now: Weights, state: State, total_steps: int
  ) -> Weights:
    own = optax.tree.get(state.opt_state, "ScheduleFreeState")
    return optax.contrib.schedule_free_eval_params(own, state.params), now[1]
