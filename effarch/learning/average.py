"""Averages of weights along the training, which are judged and shipped.

Training goes on from its own weights, so that an average costs but its
arithmetic. Statistics of activations, such as
BatchNorm's, are averaged as the parameters are, which stands in for measuring
them anew; keys and counts are the newest. One average listed after another is
an average of its averages.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from effarch.infrastructure.training import State, Technique, Weights
from effarch.learning.checks import check_within


@dataclasses.dataclass(frozen=True)
class WeightEMA(Technique):
  """An exponential moving average of the weights (Polyak averaging).

  The weights of `t` steps count in proportion to `decay^(t - i)`, with a sum
  of one: the initial weights are not among them.

  Args:
    decay: in [0, 1); 0 keeps the newest weights.
  """

  decay: float = 0.999

  def __post_init__(self):
    check_within("[0, 1)", decay=self.decay)

  def average(
    self, before: Weights, now: Weights, state: State, total_steps: int
  ) -> Weights:
    rate = jnp.log(jnp.float32(self.decay))
    return _mixed(before, now, jnp.expm1(rate) / jnp.expm1(rate * state.step))


@dataclasses.dataclass(frozen=True)
class SWA(Technique):
  """Stochastic weight averaging: the mean of late weights (1803.05407).

  It wants a rate that stays high or comes back: the schedule `constant`.

  Args:
    start: in [0, 1); the share of the training before the first weights of
      the mean. Until then the newest weights are judged.
    every: steps from one to the next of the weights that are averaged.
  """

  start: float = 0.75
  every: int = 1

  def __post_init__(self):
    check_within("[0, 1)", start=self.start)
    check_within("[1, inf)", every=self.every)

  def average(
    self, before: Weights, now: Weights, state: State, total_steps: int
  ) -> Weights:
    late = state.step - max(1, math.ceil(self.start * total_steps))
    share = jnp.where(late % self.every, 0.0, 1 / (late // self.every + 1))
    return _mixed(before, now, jnp.where(late < 0, 1.0, share))


def _mixed(before: Weights, now: Weights, share: Float[Array, ""]) -> Weights:
  """Returns `(1 - share) before + share now`, of what is no key or count."""

  def mix(old, new):
    if not jnp.issubdtype(new.dtype, jnp.floating):
      return new
    # A share of 0 or 1 gives one of them, bit for bit.
    return ((1 - share) * old + share * new).astype(new.dtype)

  return jax.tree.map(mix, before, now)
