import jax.numpy as jnp
import numpy as np
import optax
import pytest

from effarch.infrastructure.training import OPTIMIZERS, SCHEDULES, clipped


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_reach_the_rate_and_stay_below(name):
  schedule = SCHEDULES[name](learning_rate=0.5, total_steps=200)
  rates = np.array([schedule(step) for step in range(200)])
  assert rates.max() == pytest.approx(0.5, rel=1e-3)
  assert rates.min() >= 0
  if name != "constant":
    assert rates[-1] < 0.01 < rates.max() > rates[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_descend(name):
  tx = OPTIMIZERS[name](learning_rate=0.1)
  params = jnp.array([3.0, -2.0])
  state = tx.init(params)
  for _ in range(20):
    updates, state = tx.update(2 * params, state, params)
    params = optax.apply_updates(params, updates)
  assert jnp.sum(jnp.square(params)) < 13 / 2


def test_clipping_bounds_the_gradients_length():
  # At a rate of 1, clipping what the optimizer returns would do the same.
  tx = clipped(optax.sgd(0.1), 0.5)
  gradients = jnp.array([3.0, 4.0])
  updates, _ = tx.update(gradients, tx.init(gradients))
  np.testing.assert_allclose(updates, [-0.03, -0.04], rtol=1e-6)
  small = jnp.array([0.03, 0.04])
  updates, _ = tx.update(small, tx.init(small))
  np.testing.assert_allclose(updates, -0.1 * small)
  tx = optax.sgd(1.0)
  assert clipped(tx, 0.0) is tx


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: SCHEDULES["cosine"](1.0, 9, warmup_fraction=1.0), "warmup"),
    (lambda: SCHEDULES["one_cycle"](1.0, 9, peak_fraction=0.0), "peak"),
  ],
)
def test_refuses_the_impossible(call, message):
  with pytest.raises(ValueError, match=message):
    call()
