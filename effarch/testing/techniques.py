"""The exam of techniques."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from effarch.architectures.models.resnet import BasicBlock
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import (
  Technique,
  classification_loss,
  first_state,
  make_steps,
)
from effarch.infrastructure.training.mesh import data_mesh, replicated
from effarch.infrastructure.training.technique import apply_batch_hooks

# Eight examples of each kind; texts have padding after them.
_TOKENS = jax.random.randint(jax.random.key(1), (8, 12), 1, 20)
INPUTS = {
  "images": jax.random.uniform(
    jax.random.key(0), (8, 8, 8, 1), minval=-1, maxval=1
  ),
  "tokens": jnp.where(jnp.arange(12) < 2 + jnp.arange(8)[:, None], _TOKENS, 0),
  "signals": jax.random.normal(jax.random.key(0), (8, 32, 2)),
  "features": jax.random.normal(jax.random.key(0), (8, 5)),
}


def check_technique(
  technique: Technique, kind: str = "images", off: Technique | None = None
) -> None:
  """Examines a technique's hooks on a small classifier.

  Args:
    technique: as a config would make it.
    kind: of the inputs that it is for, a key of `INPUTS`.
    off: the technique, set so that it does nothing; if it can be.
  """
  assert dataclasses.is_dataclass(technique), "no dataclass"
  assert hash(technique) == hash(dataclasses.replace(technique)), "not frozen"
  key = jax.random.key(0)
  inputs = INPUTS[kind]
  classes = np.arange(8, dtype=np.int32) % 4
  train = Dataset(np.asarray(inputs), classes, ("a", "b", "c", "d"))
  batch = {
    "inputs": inputs,
    "labels": jax.nn.one_hot(classes, 4),
    "index": jnp.arange(8),
    "progress": jnp.float32(0.5),
    "constants": technique.constants(train),
  }

  def run(technique):
    """Traces anew at each call."""
    return jax.jit(lambda b, rng: apply_batch_hooks([technique], b, rng))(
      batch, key
    )

  given = run(technique)
  changed = {name: given[name] for name in batch}  # It may add entries.
  chex.assert_trees_all_equal_shapes_and_dtypes(changed, batch)
  chex.assert_tree_all_finite(changed)
  chex.assert_trees_all_equal(run(technique), given)
  eager = apply_batch_hooks([technique], batch, key)
  chex.assert_trees_all_close(
    {name: eager[name] for name in batch}, changed, atol=1e-5
  )
  np.testing.assert_allclose(
    changed["labels"].sum(-1), 1, atol=1e-6, err_msg="labels don't sum to 1"
  )
  if kind == "images":
    assert jnp.abs(changed["inputs"]).max() <= 1 + 1e-6, "not in [-1, 1]"

  example = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
  plain = (
    Classifier(rngs=nnx.Rngs(0))
    if kind == "images"
    else _Flat(inputs[0].size, nnx.Rngs(0))
  )
  model = technique.model(plain, example)
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)

  @jax.jit
  def losses_of(batch):
    model = nnx.merge(graphdef, params, rest, copy=True)
    return technique.loss(classification_loss)(model, batch)

  losses, metrics = losses_of(given)
  chex.assert_shape(losses, (8,))
  chex.assert_tree_all_finite((losses, metrics))
  assert "accuracy" in metrics, "the loss hook lost the metrics"
  if off is not None:
    given = run(off)
    chex.assert_trees_all_equal({name: given[name] for name in batch}, batch)
    chex.assert_trees_all_equal(
      off.loss(classification_loss)(model, given),
      classification_loss(model, batch),
    )

  tx = technique.optimizer(optax.sgd(0.1))
  mesh = data_mesh()
  steps = make_steps(
    graphdef, tx, [technique], classification_loss, 4, mesh, total_steps=2
  )
  state = jax.device_put(
    first_state(params, rest, tx, [technique]), replicated(mesh)
  )
  shapes = jax.eval_shape(lambda state: state, state)
  arrays = inputs, jnp.asarray(classes), batch["constants"]
  state, told = steps(state, arrays, jnp.arange(8)[None], key)
  chex.assert_trees_all_equal_shapes_and_dtypes(state, shapes)
  chex.assert_tree_all_finite((told, [each for each, _ in state.weights]))
  model = nnx.merge(graphdef, *state.weights[-1])
  model.eval()
  logits = jax.jit(technique.finish(model))(inputs)
  chex.assert_shape(logits, (8, 4))


class Classifier(nnx.Module):
  """The exam's model of images, with a residual block: `B H W 1` to `B 4`."""

  def __init__(self, rngs: nnx.Rngs):
    self.stem = nnx.Conv(1, 8, (3, 3), rngs=rngs)
    self.block = BasicBlock(8, 8, rngs=rngs)
    self.hidden = nnx.Linear(8, 16, rngs=rngs)
    self.classifier = nnx.Linear(16, 4, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = self.block(self.stem(x)).mean((1, 2))
    return self.classifier(nnx.relu(self.hidden(x)))


class _Flat(nnx.Module):
  """That of all others: to `B 4`."""

  def __init__(self, features: int, rngs: nnx.Rngs):
    self.hidden = nnx.Linear(features, 8, rngs=rngs)
    self.classifier = nnx.Linear(8, 4, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.reshape(len(x), -1).astype(jnp.float32)
    return self.classifier(nnx.relu(self.hidden(x)))
