import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.config import build
from effarch.infrastructure.training import OPTIMIZERS, SCHEDULES, clipped


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_reach_the_rate_and_stay_below(name):
  schedule = SCHEDULES[name](learning_rate=0.5, total_steps=200)
  rates = np.array([schedule(step) for step in range(200)])
  assert rates.max() == pytest.approx(0.5, rel=1e-3)
  assert rates.min() >= 0
  if name != "constant":
    assert rates[-1] < 0.01 < rates.max() > rates[0]


# Where a tenth is not the rate that they are made for.
RATES = {"adadelta": 30.0, "adagrad": 0.5, "lars": 100.0, "prodigy": 1.0}


class Net(nnx.Module):
  """Each kind of parameter that Muon tells apart."""

  def __init__(self, rngs):
    self.embedding = nnx.Embed(5, 4, rngs=rngs)
    self.conv = nnx.Conv(4, 6, (3,), rngs=rngs)
    self.depthwise = nnx.Conv(6, 6, (3, 3), feature_group_count=6, rngs=rngs)
    self.hidden = nnx.Linear(6, 3, rngs=rngs)
    self.classifier = nnx.Linear(3, 2, rngs=rngs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_descend(name):
  """On the squares of a model's parameters, under a schedule."""
  rate = RATES.get(name, 0.1)
  entries = {"name": name}
  tx = build(
    OPTIMIZERS,
    entries,
    "config.optimizer",
    learning_rate=optax.constant_schedule(rate),
  )

  def loss(params):
    return optax.tree.norm(params, squared=True)

  @jax.jit
  def descend(params):
    def step(carry, _):
      params, state = carry
      updates, state = tx.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=60)
    return params

  params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
  found = descend(params)
  chex.assert_trees_all_equal_shapes_and_dtypes(found, params)
  assert loss(found) < loss(params) / 2


def test_muon_makes_the_steps_of_hidden_layers_orthogonal():
  params = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
  gradients = jax.tree.map(
    lambda x: jax.random.normal(jax.random.key(x.size), x.shape), params
  )
  tx = OPTIMIZERS["muon"](learning_rate=0.5, ns_steps=12)
  steps, _ = tx.update(gradients, tx.init(params), params)
  adam = optax.nadamw(0.5, weight_decay=0.0)
  plain, _ = adam.update(gradients, adam.init(params), params)
  for path in ("conv", "hidden"):
    step = np.asarray(steps[path]["kernel"][...])
    matrix = step.reshape(-1, step.shape[-1])
    singular = np.linalg.svd(matrix, compute_uv=False)
    # Newton-Schulz leaves them near one; then comes the scale by the shape.
    singular /= 0.5 * 0.2 * np.sqrt(max(matrix.shape))
    assert 0.6 < singular.min() <= singular.max() < 1.3
    given = np.asarray(gradients[path]["kernel"][...]).reshape(matrix.shape)
    left, _, right = np.linalg.svd(given, full_matrices=False)
    assert np.sum(matrix * (left @ right)) < 0
    del steps[path]["kernel"], plain[path]["kernel"]
  # Biases, embeddings, single channels and the classifier are NAdamW's.
  chex.assert_trees_all_close(steps, plain, rtol=1e-5)
  tx = OPTIMIZERS["muon"](learning_rate=0.5, adam_layers=("*",))
  steps, _ = tx.update(gradients, tx.init(params), params)
  plain, _ = adam.update(gradients, adam.init(params), params)
  chex.assert_trees_all_close(steps, plain, rtol=1e-5)


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
