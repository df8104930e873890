"""Averages of weights against sums that are written out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.training import State
from effarch.learning.average import SWA, WeightEMA
from effarch.learning.lookahead import Lookahead
from effarch.learning.schedule_free import ScheduleFree

STEPS = 12
GENERATOR = np.random.default_rng(0)
PARAMS = GENERATOR.normal(size=(STEPS + 1, 3)).astype(np.float32)
STATISTICS = GENERATOR.normal(size=(STEPS + 1, 2)).astype(np.float32)


def weights(step):
  rest = {
    "mean": nnx.BatchStat(jnp.asarray(STATISTICS[step])),
    "count": nnx.RngCount(jnp.uint32(step)),
    "key": nnx.RngKey(jax.random.key(step)),
  }
  params = nnx.State({"w": nnx.Param(jnp.asarray(PARAMS[step]))})
  return params, nnx.State(rest)


def averaged(technique):
  """What a technique gives after each step."""
  average = jax.jit(
    lambda before, now, step: technique.average(
      before, now, State(step, *now, ()), STEPS
    )
  )
  found = [weights(0)]
  for step in range(1, STEPS + 1):
    found.append(average(found[-1], weights(step), jnp.int32(step)))
  return found[1:]


def check(found, step, shares):
  """Compares with the sum of shares of the weights of steps 1, 2, ..."""
  params, rest = found
  np.testing.assert_allclose(
    params["w"][...], shares @ PARAMS[1 : len(shares) + 1], atol=2e-6
  )
  np.testing.assert_allclose(
    rest["mean"][...], shares @ STATISTICS[1 : len(shares) + 1], atol=2e-6
  )
  # Keys and counts are those of the step.
  chex.assert_trees_all_equal(rest["key"], weights(step)[1]["key"])
  chex.assert_trees_all_equal(rest["count"], weights(step)[1]["count"])


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_ema_is_its_weighted_sum(decay):
  for step, found in enumerate(averaged(WeightEMA(decay)), 1):
    shares = decay ** np.arange(step)[::-1]
    check(found, step, shares / shares.sum())


@pytest.mark.parametrize("every", [1, 3])
def test_swa_is_the_mean_of_late_weights(every):
  for step, found in enumerate(averaged(SWA(0.5, every)), 1):
    used = np.zeros(step)
    used[5::every] = 1  # Steps 6, 6 + every, ...
    if step < 6:
      used[-1] = 1
    check(found, step, used / used.sum())


@pytest.mark.parametrize("technique", [WeightEMA(0.0), SWA(0.99)])
def test_the_newest_weights_are_returned_bit_for_bit(technique):
  for step, found in enumerate(averaged(technique), 1):
    chex.assert_trees_all_equal(found, weights(step))


def descended(technique, tx, steps=13):
  """Parameters in training and those that are judged, after each step."""
  tx = technique.optimizer(tx)

  @jax.jit
  def step(state):
    gradients = jax.tree.map(lambda w: w - jnp.arange(3.0), state.params)
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = State(state.step + 1, params, state.rest, opt_state)
    now = state.weights[0]
    return state, technique.average(now, now, state, steps)

  params, rest = weights(0)
  state = State(jnp.int32(0), params, rest, tx.init(params))
  rows = []
  for _ in range(steps):
    state, (judged, _) = step(state)
    rows.append((np.array(state.params["w"]), np.array(judged["w"])))
  return [np.stack(each) for each in zip(*rows, strict=True)]


def test_lookahead_equals_optax_s():
  fast, slow = descended(Lookahead(4, 0.3), optax.adam(0.1))
  tx = optax.lookahead(optax.adam(0.1), sync_period=4, slow_step_size=0.3)
  params = optax.LookaheadParams.init_synced(jnp.asarray(PARAMS[0]))
  state = tx.init(params)
  for step in range(13):
    updates, state = tx.update(params.fast - jnp.arange(3.0), state, params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(fast[step], params.fast, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slow[step], params.slow, rtol=1e-5, atol=1e-6)
  assert not np.allclose(fast[-1], slow[-1])


def test_schedule_free_equals_its_formulas():
  between, judged = descended(ScheduleFree(0.8), optax.sgd(0.3))
  x = z = PARAMS[0].astype(np.float64)
  for step in range(13):
    y = 0.2 * z + 0.8 * x
    z = z - 0.3 * (y - np.arange(3.0))
    x = x + (z - x) / (step + 1)
    np.testing.assert_allclose(between[step], 0.2 * z + 0.8 * x, atol=1e-5)
    np.testing.assert_allclose(judged[step], x, atol=1e-5)


@pytest.mark.parametrize(
  ("technique", "arguments"),
  [
    (WeightEMA, {"decay": 1.0}),
    (SWA, {"start": 1.0}),
    (SWA, {"every": 0}),
    (Lookahead, {"sync_period": 0}),
    (Lookahead, {"slow_step_size": 1.0}),
    (ScheduleFree, {"momentum": 0.0}),
  ],
)
def test_refuses_the_impossible(technique, arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    technique(**arguments)
