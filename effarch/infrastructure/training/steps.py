"""The compiled program that takes some training steps."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from effarch.infrastructure.training import mesh as meshes
from effarch.infrastructure.training.technique import (
  State,
  apply_batch_hooks,
  averaging,
  make_batch,
)


def first_state(params, rest, tx, techniques=()):
  """Returns the `State` before the first step.

  Args:
    params: the model's parameters.
    rest: of the model's state.
    tx: the optimizer.
    techniques: who of them averages weights begins with the model's.
  """
  # Each has buffers of its own, for all are donated.
  averages = tuple(
    jax.tree.map(jnp.copy, (params, rest)) for _ in averaging(techniques)
  )
  step = jnp.zeros((), jnp.int32)
  return State(step, params, rest, tx.init(params), averages)


def make_steps(
  graphdef, tx, techniques, loss_fn, num_classes, mesh, *, total_steps
):
  """Returns the compiled program that takes some training steps.

  Args:
    graphdef: of the model in training mode.
    tx: the optimizer.
    techniques: their hooks of each step are applied.
    loss_fn: each example's loss and metrics.
    num_classes: of the labels.
    mesh: of the devices.
    total_steps: of the whole training.

  Returns:
    From a `State`, which is used up, all inputs and labels and the techniques'
    constants, the `k B` places of k batches, a random key, and how many tokens
    are taken (all if None), to the state after k steps and each step's metrics,
    `k`.
  """
  for technique in techniques:
    loss_fn = technique.loss(loss_fn)

  def average(averages, after):
    now, found = after.weights[0], []
    for technique, before in zip(averaging(techniques), averages, strict=True):
      now = technique.average(before, now, after, total_steps)
      found.append(now)
    return tuple(found)

  def take_steps(state, arrays, indices, key, length=None):
    def one_step(state, index):
      inputs, labels, constants = arrays
      batch = make_batch((inputs, labels), index, num_classes, length)
      batch["constants"] = constants
      batch["progress"] = state.step / total_steps
      rng = jax.random.fold_in(key, state.step)
      batch = apply_batch_hooks(techniques, batch, rng)

      def objective(params, batch):
        # Copied, since the outer trace owns what `rest` holds.
        model = nnx.merge(graphdef, params, state.rest, copy=True)
        losses, metrics = loss_fn(model, batch)
        rest = nnx.state(model, nnx.Not(nnx.Param))
        means = {k: jnp.mean(v) for k, v in metrics.items()}
        loss = jnp.mean(losses)
        return loss, (rest, {"loss": loss, **means})

      gradient_fn = jax.grad(objective, has_aux=True)
      for technique in techniques:
        gradient_fn = technique.gradient(gradient_fn)
      gradients, (rest, metrics) = gradient_fn(state.params, batch)
      updates, opt_state = tx.update(gradients, state.opt_state, state.params)
      # A state is a tree like any other to Optax, and returned as one.
      params = cast(nnx.State, optax.apply_updates(state.params, updates))
      after = State(state.step + 1, params, rest, opt_state)
      return after._replace(averages=average(state.averages, after)), metrics

    if not unrolled():
      return jax.lax.scan(one_step, state, indices)
    rows = []
    for index in indices:
      state, metrics = one_step(state, index)
      rows.append(metrics)
    return state, jax.tree.map(lambda *values: jnp.stack(values), *rows)

  return jax.jit(
    take_steps,
    donate_argnums=0,
    static_argnums=4,
    out_shardings=meshes.replicated(mesh),
  )


def unrolled() -> bool:
  """Whether steps are traced one by one instead of scanned.

  XLA's CPU backend runs a convolution inside a loop some 25 times slower, and
  `scan` makes a loop even of a single step.
  """
  return jax.default_backend() == "cpu"
