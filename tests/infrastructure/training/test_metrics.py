"""Losses and accuracies, for each example and for each token."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.infrastructure.training import classification_loss
from effarch.infrastructure.training.technique import make_batch


class Given(nnx.Module):
  """Answers with its inputs."""

  def __call__(self, x):
    return x


def test_tokens_that_are_asked_count_the_same_and_others_nothing():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 5, 4)).astype(np.float32)
  labels = np.array(
    [[1, 2, -1, -1, 0], [-1, -1, -1, -1, 3], [-1] * 5], np.int32
  )
  batch = make_batch(
    (jnp.asarray(logits), jnp.asarray(labels)), jnp.arange(3), 4
  )
  loss, metrics = classification_loss(Given(), batch)
  logs = np.asarray(jax.nn.log_softmax(logits))
  for row in range(3):
    asked = np.flatnonzero(labels[row] >= 0)
    found = [-logs[row, t, labels[row, t]] for t in asked]
    right = [logits[row, t].argmax() == labels[row, t] for t in asked]
    chex.assert_trees_all_close(
      loss[row], np.mean(found) if found else 0.0, rtol=1e-5
    )
    chex.assert_trees_all_close(
      metrics["accuracy"][row], np.mean(right) if right else 0.0, rtol=1e-6
    )


def test_a_cut_batch_has_the_first_tokens_and_their_labels():
  inputs = jnp.arange(1, 13, dtype=jnp.int16).reshape(2, 6)
  labels = jnp.arange(12).reshape(2, 6)
  batch = make_batch((inputs, labels), jnp.array([1]), 12, 4)
  assert batch["inputs"].dtype == jnp.int32
  assert batch["inputs"].tolist() == [[7, 8, 9, 10]]
  assert batch["labels"].argmax(-1).tolist() == [[6, 7, 8, 9]]
  pairs = inputs.reshape(1, 2, 6)
  batch = make_batch((pairs, jnp.array([3])), jnp.array([0]), 12, 2)
  assert batch["inputs"].tolist() == [[[1, 2], [7, 8]]]
  assert batch["labels"].argmax(-1).tolist() == [3]


def test_a_batch_knows_its_examples_places():
  inputs = jnp.arange(12.0).reshape(6, 2)
  places = jnp.array([4, 0, 4])
  batch = make_batch((inputs, jnp.arange(6)), places, 6)
  assert batch["index"].tolist() == [4, 0, 4]
  assert batch["labels"].argmax(-1).tolist() == [4, 0, 4]
