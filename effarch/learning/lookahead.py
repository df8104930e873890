"""The Lookahead optimizer (arXiv:1907.08610), for plain trees of parameters.

Optax's own trains a pair of trees.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from effarch.infrastructure.training import State, Technique, Weights
from effarch.learning.checks import check_within


class LookaheadState(NamedTuple):
  """The fast weights' optimizer, the slow weights, and the steps done."""

  fast: optax.OptState
  slow: optax.Params
  steps: jax.Array


def lookahead(
  tx: optax.GradientTransformation, sync_period: int, slow_step_size: float
) -> optax.GradientTransformation:
  """Returns an optimizer whose weights come back to slow ones now and then.

  Args:
    tx: the fast weights' optimizer.
    sync_period: steps from one time to the next.
    slow_step_size: the part of the way to the fast weights that the slow ones
      then go.
  """

  def init(params):
    slow = jax.tree.map(jnp.copy, params)
    return LookaheadState(tx.init(params), slow, jnp.zeros((), jnp.int32))

  def update(updates, state, params=None):
    updates, fast = tx.update(updates, state.fast, params)
    steps = state.steps + 1
    meets = steps % sync_period == 0

    def follow(slow, param, update):
      way = slow_step_size * (param + update - slow)
      return jnp.where(meets, slow + way, slow)

    slow = jax.tree.map(follow, state.slow, params, updates)
    updates = jax.tree.map(
      lambda update, slow, param: jnp.where(meets, slow - param, update),
      *(updates, slow, params),
    )
    return updates, LookaheadState(fast, slow, steps)

  return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True)
class Lookahead(Technique):
  """Slow weights, which go a part of the way behind fast ones (1907.08610).

  The fast weights begin anew from them; the slow ones are judged.

  Args:
    sync_period: steps of the fast weights for each of the slow ones.
    slow_step_size: in (0, 1); the part of the way.
  """

  sync_period: int = 6
  slow_step_size: float = 0.5

  def __post_init__(self):
    check_within("[1, inf)", sync_period=self.sync_period)
    check_within("(0, 1)", slow_step_size=self.slow_step_size)

  def optimizer(
    self, tx: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    return lookahead(tx, self.sync_period, self.slow_step_size)

  def average(
    self, before: Weights, now: Weights, state: State, total_steps: int
  ) -> Weights:
    return optax.tree.get(state.opt_state, "LookaheadState").slow, now[1]
