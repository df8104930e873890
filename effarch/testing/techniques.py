"""The exam of techniques."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from effarch.infrastructure.training import Technique, classification_loss
from effarch.infrastructure.training.technique import apply_batch_hooks


def check_technique(technique: Technique) -> None:
  """Examines a technique's hooks on a small classifier.

  Args:
    technique: as a config would make it.
  """
  assert dataclasses.is_dataclass(technique), "no dataclass"
  assert hash(technique) == hash(dataclasses.replace(technique)), "not frozen"
  key = jax.random.key(0)
  images = jax.random.uniform(key, (8, 8, 8, 1), minval=-1, maxval=1)
  labels = jax.nn.one_hot(jnp.arange(8) % 4, 4)
  batch = {"inputs": images, "labels": labels}

  run = jax.jit(lambda batch, rng: apply_batch_hooks([technique], batch, rng))
  changed = run(batch, key)
  chex.assert_trees_all_equal_shapes_and_dtypes(changed, batch)
  chex.assert_tree_all_finite(changed)
  chex.assert_trees_all_equal(run(batch, key), changed)
  chex.assert_trees_all_close(
    apply_batch_hooks([technique], batch, key), changed, atol=1e-6
  )
  np.testing.assert_allclose(
    changed["labels"].sum(-1), 1, atol=1e-6, err_msg="labels don't sum to 1"
  )

  example = jax.ShapeDtypeStruct((1, 8, 8, 1), images.dtype)
  model = technique.model(_Classifier(rngs=nnx.Rngs(0)), example)
  losses, metrics = technique.loss(classification_loss)(model, batch)
  chex.assert_shape(losses, (8,))
  chex.assert_tree_all_finite((losses, metrics))
  assert "accuracy" in metrics, "the loss hook lost the metrics"

  params = nnx.state(model, nnx.Param)
  tx = technique.optimizer(optax.sgd(0.1))
  updates, _ = tx.update(
    jax.tree.map(jnp.ones_like, params), tx.init(params), params
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
  logits = technique.finish(model)(images)
  chex.assert_shape(logits, (8, 4))


class _Classifier(nnx.Module):
  """The smallest model with a hidden layer: `B 8 8 1` to `B 4`."""

  def __init__(self, rngs: nnx.Rngs):
    self.hidden = nnx.Linear(64, 8, rngs=rngs)
    self.classifier = nnx.Linear(8, 4, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = nnx.relu(self.hidden(x.reshape(len(x), -1)))
    return self.classifier(x)
