import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.infrastructure.training import classification_loss
from effarch.infrastructure.training.technique import apply_batch_hooks
from effarch.learning.augment import Mixup, WorstCase
from effarch.learning.augment.policies import rand_augment

IMAGES = jax.random.uniform(jax.random.key(0), (6, 8, 8, 1), minval=-1)
BATCH = {
  "inputs": IMAGES,
  "labels": jax.nn.one_hot(jnp.arange(6) % 3, 3),
  "index": jnp.arange(6),
  "progress": jnp.float32(0),
}


class Model(nnx.Module):
  """Has running statistics and random numbers, as real models have."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.dense = nnx.Linear(64, 16, rngs=rngs)
    self.norm = nnx.BatchNorm(16, momentum=0.5, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.last = nnx.Linear(16, 3, rngs=rngs)

  def __call__(self, x):
    x = self.norm(self.dense(x.reshape(len(x), -1)))
    return self.last(self.dropout(nnx.relu(x)))


def stepper(loss_fn):
  """From a batch to losses, gradients, and what the model becomes."""
  graphdef, params, rest = nnx.split(Model(), nnx.Param, ...)

  @jax.jit
  def step(batch):
    def objective(params):
      model = nnx.merge(graphdef, params, rest, copy=True)
      losses, _ = loss_fn(model, batch)
      return losses.mean(), (losses, nnx.state(model, nnx.Not(nnx.Param)))

    gradients, (losses, state) = jax.grad(objective, has_aux=True)(params)
    return losses, gradients, nnx.filter_state(state, nnx.BatchStat)

  return step


def test_trains_on_the_worst_version_as_if_it_had_been_given():
  technique = WorstCase(4, 1, 20.0)
  rng = jax.random.key(1)
  augment = jax.jit(lambda images: rand_augment(images, rng, 1, 20.0))
  versions = augment(jnp.tile(IMAGES, (4, 1, 1, 1))).reshape(4, *IMAGES.shape)
  plain = stepper(classification_loss)
  each = np.array([plain({**BATCH, "inputs": v})[0] for v in versions])
  chosen = each.argmax(0)
  assert len(set(chosen)) > 1
  worst = versions[chosen, np.arange(len(IMAGES))]
  found = stepper(technique.loss(classification_loss))(
    technique.batch(BATCH, rng)
  )
  expected = plain({**BATCH, "inputs": worst})
  chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def test_sees_what_later_techniques_make_of_the_batch():
  key = jax.random.key(0)
  technique = WorstCase(2, 1)
  one = apply_batch_hooks([technique, Mixup()], BATCH, key)
  other = apply_batch_hooks([Mixup(), technique], BATCH, key)
  assert np.any(one["inputs"] != IMAGES)
  step = stepper(technique.loss(classification_loss))
  np.testing.assert_array_equal(step(one)[0], step(other)[0])
