"""Shared exams: what every member of a name table must pass.

Only tests import this. Each exam raises `AssertionError` at the first rule
that is broken; the tests hold a mutant against each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from effarch.infrastructure.cost import Report, measure
from effarch.infrastructure.training import (
  Technique,
  classification_loss,
)
from effarch.infrastructure.training.technique import apply_batch_hooks


def check_layer(
  make: Callable[..., nnx.Module],
  x: jax.Array,
  out_shape: tuple[int, ...],
  *,
  params: int,
  macs: int,
) -> None:
  """Examines a layer that maps one array to one array.

  Args:
    make: from `dtype` and `rngs` to the layer.
    x: float32 input, batch first.
    out_shape: of the output for `x`.
    params: the formula's number of trained numbers.
    macs: the formula's multiply-accumulates for `x`.
  """
  layer = make(dtype=jnp.float32, rngs=nnx.Rngs(0))
  layer.eval()
  out = layer(x)
  chex.assert_shape(out, out_shape)
  assert out.dtype == jnp.float32, f"float32 gives {out.dtype}"
  chex.assert_tree_all_finite(out)

  graphdef, state = nnx.split(layer)
  call = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
  chex.assert_trees_all_close(call(state, x), out, rtol=1e-5, atol=1e-5)
  # One example's output is its own affair.
  chex.assert_trees_all_close(call(state, x[:1]), out[:1], rtol=1e-5, atol=1e-5)

  same = nnx.state(make(dtype=jnp.float32, rngs=nnx.Rngs(0)))
  chex.assert_trees_all_equal(same, nnx.state(layer))

  half = make(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  half.eval()
  for leaf in jax.tree.leaves(nnx.state(half, nnx.Param)):
    assert leaf.dtype == jnp.float32, f"parameters turned {leaf.dtype}"
  scale = float(jnp.max(jnp.abs(out))) + 1e-6
  error = jnp.max(jnp.abs(half(x).astype(jnp.float32) - out)) / scale
  assert error < 0.05, f"bfloat16 is off by {error:.3f} of the largest output"

  params_state, rest = nnx.state(layer, nnx.Param, ...)

  def squares(params_state):
    model = nnx.merge(graphdef, params_state, rest, copy=True)
    return jnp.sum(jnp.square(model(x)))

  gradients = jax.jit(jax.grad(squares))(params_state)
  for path, leaf in jax.tree.leaves_with_path(gradients):
    name = jax.tree_util.keystr(path)
    assert bool(jnp.isfinite(leaf).all()), f"gradient of {name} not finite"
    assert bool(jnp.any(leaf != 0)), f"{name} gets no gradient"

  cost = measure(layer, x)
  assert not cost.unknown, f"primitives without a cost: {cost.unknown}"
  assert cost.params == params, f"{cost.params} parameters, formula {params}"
  assert cost.macs == macs, f"{cost.macs} MACs, formula {macs}"


def check_report(report: Report) -> None:
  """Examines that a cost report is complete, and its rows add up exactly.

  Args:
    report: what `measure` returned.
  """
  assert not report.unknown, f"primitives without a cost: {report.unknown}"
  rows = report.by_module
  for path, row in rows.items():
    within = f"{path}." if path else ""
    inner = [p for p in rows if p == path or p.startswith(within)]
    for name, number in row.numbers().items():
      total = sum(getattr(rows[p].own, name) for p in inner)
      assert number == total, f"{path}: {name} {number}, sum {total}"
  assert rows[""].numbers() == report.numbers(), "the whole is no sum"


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

  model = technique.model(_Classifier(rngs=nnx.Rngs(0)))
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
