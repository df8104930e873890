"""The training loop: pure steps under one `jax.jit`, exact resume.

Every random number is a function of the seed and of the step's or epoch's
number, so a run that was killed and goes on from its last checkpoint repeats
what the undisturbed run does, bit for bit; on a GPU with the XLA flag
`--xla_gpu_deterministic_ops=true`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from effarch.config import did_you_mean
from effarch.errors import UserError
from effarch.infrastructure.data import Dataset, decode
from effarch.infrastructure.training import mesh as meshes
from effarch.infrastructure.training.batches import Batches, check_buckets
from effarch.infrastructure.training.checkpoint import Checkpoints
from effarch.infrastructure.training.evaluate import Evaluator
from effarch.infrastructure.training.metrics import classification_loss
from effarch.infrastructure.training.progress import Progress
from effarch.infrastructure.training.run_folder import MetricLog, RunFolder
from effarch.infrastructure.training.steps import (
  first_state,
  make_steps,
  unrolled,
)
from effarch.infrastructure.training.technique import (
  LossFn,
  State,
  Technique,
)

_CRITERIA = ("accuracy", "loss")
_STEPS_PER_DISPATCH = 50


@dataclasses.dataclass(frozen=True)
class Loop:
  """How long to train, and in what portions.

  Args:
    epochs: passes over the training data; each drops its part-filled batch.
    batch_size: examples a step, over all devices.
    evaluate_every: epochs between two looks at the validation data, each
      followed by a checkpoint.
    steps_per_dispatch: steps in one compiled program. 0 chooses by platform:
      1 on a CPU, where a step outlasts its dispatch by far, else up to 50.
    buckets: lengths of token sequences that are batched with their like, and
      cut to it; longer ones make one more bucket. Each compiles a program.
    best: what decides of validation data which checkpoint is best: the largest
      `"accuracy"`, or the smallest `"loss"`.
  """

  epochs: int
  batch_size: int
  evaluate_every: int = 1
  steps_per_dispatch: int = 0
  buckets: tuple[int, ...] = ()
  best: str = "accuracy"

  def __post_init__(self):
    for name in ("epochs", "batch_size", "evaluate_every"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}: {getattr(self, name)} is not positive")
    if self.steps_per_dispatch < 0:
      raise ValueError(
        f"steps_per_dispatch: {self.steps_per_dispatch} is negative"
      )
    check_buckets(self.buckets)
    if self.best not in _CRITERIA:
      hint = did_you_mean(str(self.best), _CRITERIA)
      raise ValueError(f"best: {self.best!r} is unknown; {hint}")

  @property
  def dispatched(self) -> int:
    """Steps in one compiled program, the platform's choice made."""
    if self.steps_per_dispatch:
      return self.steps_per_dispatch
    return 1 if unrolled() else _STEPS_PER_DISPATCH

  def steps_per_epoch(self, num_examples: int) -> int:
    """Returns the number of whole batches.

    Raises:
      UserError: there is none.
    """
    if num_examples < self.batch_size:
      raise UserError(
        f"config.training.batch_size: {self.batch_size} is more than the "
        f"{num_examples} training examples"
      )
    return num_examples // self.batch_size


def fit(
  model: nnx.Module,
  train: Dataset,
  validation: Dataset,
  *,
  loop: Loop,
  optimizer: optax.GradientTransformation,
  folder: RunFolder,
  seed: int = 0,
  techniques: Sequence[Technique] = (),
  loss_fn: LossFn = classification_loss,
) -> dict[str, Any]:
  """Trains `model`, or goes on training it, and keeps the best checkpoint.

  Args:
    model: freshly made; it is used up. `best_model` gives the trained one.
    train: examples to learn from.
    validation: examples that decide which checkpoint is best.
    loop: how long.
    optimizer: any Optax transformation.
    folder: the run's record; a training begun there is taken up again.
    seed: of the order of examples and of the techniques' random numbers.
    techniques: what changes the training.
    loss_fn: each example's loss and metrics, `accuracy` among them.

  Returns:
    `step`, `epoch` and metrics of the best checkpoint; `train_seconds`, the
    time of all steps and evaluations, over all restarts; and `step_seconds`,
    the mean of steps alone, without the first epoch of each start, which
    compiles. Where there is no other epoch, it is `train_seconds` by steps.

  Raises:
    UserError: the data or the devices don't fit the batch size, or another
      process trains in the folder.
    FloatingPointError: the loss is no longer finite.
  """
  mesh = meshes.data_mesh()
  if loop.batch_size % mesh.size:
    raise UserError(
      f"config.training.batch_size: {loop.batch_size} is no multiple of the "
      f"{mesh.size} devices"
    )
  steps_per_epoch = loop.steps_per_epoch(len(train))
  example = jax.eval_shape(decode, train.inputs[:1])
  for technique in techniques:
    model = technique.model(model, example)
    optimizer = technique.optimizer(optimizer)
  eval_graphdef, train_graphdef, params, rest = _split(model)
  state = first_state(params, rest, optimizer, techniques)
  state = jax.device_put(state, meshes.replicated(mesh))

  take_steps = make_steps(
    train_graphdef,
    optimizer,
    techniques,
    loss_fn,
    train.num_classes,
    mesh,
    total_steps=loop.epochs * steps_per_epoch,
  )
  constants: dict[str, Any] = {}
  for technique in techniques:
    constants.update(technique.constants(train))
  arrays = jax.device_put(
    (train.inputs, train.labels, constants), meshes.replicated(mesh)
  )
  batches = Batches(train, loop.buckets)
  evaluator = Evaluator(
    eval_graphdef, validation, loss_fn, loop.batch_size, loop.buckets
  )
  key = jax.random.key(seed)
  sharding = meshes.batch_sharding(mesh, axis=1)

  with contextlib.ExitStack() as stack:
    stack.enter_context(folder.training())
    checkpoints = Checkpoints(folder.path / "checkpoints")
    stack.callback(checkpoints.close)
    seconds, timed = 0.0, (0.0, 0)
    if (step := checkpoints.latest_step()) is not None:
      state, notes = _restore(checkpoints, step, state)
      seconds = notes["train_seconds"]
      timed = notes.get("timed", timed)  # Older checkpoints have none.
    log = MetricLog(folder, int(state.step))
    stack.callback(log.close)
    first_epoch = int(state.step) // steps_per_epoch
    progress = stack.enter_context(
      Progress(str(folder.path), loop, steps_per_epoch, first_epoch)
    )
    for epoch in range(first_epoch, loop.epochs):
      started = time.perf_counter()
      history = []
      # The order depends on seed and epoch alone: a resumed run repeats it.
      order = np.random.default_rng((seed, epoch))
      for length, places in batches.epoch(
        loop.batch_size, loop.dispatched, order
      ):
        places = jax.device_put(places, sharding)
        state, metrics = take_steps(state, arrays, places, key, length)
        history.append(metrics)
        if len(history) > 1:  # The device is busy with the newest meanwhile.
          _settle(history, -2, epoch * steps_per_epoch, checkpoints, progress)
      _settle(history, -1, epoch * steps_per_epoch, checkpoints, progress)
      stepped = time.perf_counter() - started
      if epoch > first_epoch:  # The first compiles.
        timed = (timed[0] + stepped, timed[1] + steps_per_epoch)
      if (epoch + 1) % loop.evaluate_every and epoch + 1 < loop.epochs:
        seconds += stepped
        continue
      row: dict[str, int | float] = {"epoch": epoch + 1}
      for name in history[0]:
        values = np.concatenate([metrics[name] for metrics in history])
        row[f"train/{name}"] = float(np.mean(values, dtype=np.float64))
      for name, value in evaluator(*state.weights[-1]).items():
        row[f"validation/{name}"] = value
      step = (epoch + 1) * steps_per_epoch
      if not np.isfinite(row["validation/loss"]):
        _stop("validation loss", row["validation/loss"], step, checkpoints)
      log.write(step, row)
      seconds += time.perf_counter() - started
      notes = {"train_seconds": seconds, "timed": timed, **row}
      _save(checkpoints, step, state, notes, f"validation/{loop.best}")
      progress.evaluated(row)
    best = checkpoints.best_step()
    assert best is not None  # The last epoch always leaves a checkpoint.
    _, notes = checkpoints.restore(best, {})
    notes.pop("timed", None)
    total, steps = timed if timed[1] else (seconds, int(state.step))
    times = {"train_seconds": seconds, "step_seconds": total / steps}
    return {"step": best, **notes, **times}


def best_model(
  model: nnx.Module,
  folder: RunFolder,
  example: jax.ShapeDtypeStruct,
  techniques: Sequence[Technique] = (),
) -> nnx.Module:
  """Returns the run's best checkpoint, finished, in evaluation mode.

  Args:
    model: freshly made, as it was for `fit`; it is used up.
    folder: of a run with at least one checkpoint.
    example: the shape of a batch of one example's inputs.
    techniques: as they were for `fit`.

  Raises:
    UserError: the folder holds no checkpoint, or that of another model.
  """
  for technique in techniques:
    model = technique.model(model, example)
  graphdef, _, *parts = _split(model)
  checkpoints = Checkpoints(folder.path / "checkpoints")
  with contextlib.closing(checkpoints):
    step = checkpoints.best_step()
    if step is None:
      raise UserError(f"{folder.path}: holds no checkpoint; train it first")
    if not checkpoints.holds(step, parts[0]):
      raise UserError(f"{folder.path}: holds another model")
    trees, _ = checkpoints.restore(step, {"model": tuple(parts)})
  model = nnx.merge(graphdef, *trees["model"])
  for technique in techniques:
    model = technique.finish(model)
  return model


def _split(model):
  """Returns graph definitions for evaluation and training, and the state."""
  model.eval()
  eval_graphdef = nnx.graphdef(model)
  model.train()
  return eval_graphdef, *nnx.split(model, nnx.Param, ...)


def _settle(history, position, first_step, checkpoints, progress):
  """Waits for one dispatch's metrics and stops if a loss is not finite."""
  metrics = history[position] = jax.device_get(history[position])
  before = sum(len(earlier["loss"]) for earlier in history[:position])
  bad = np.flatnonzero(~np.isfinite(metrics["loss"]))
  if bad.size:
    step = first_step + before + int(bad[0]) + 1
    _stop("loss", metrics["loss"][bad[0]], step, checkpoints)
  progress.advance(
    {name: float(v[-1]) for name, v in metrics.items()}, len(metrics["loss"])
  )


def _stop(what, value, step, checkpoints):
  kept = checkpoints.latest_step()
  raise FloatingPointError(
    f"{what} is {value} at step {step}; lower config.optimizer.learning_rate "
    "or set config.optimizer.clip_norm, in a new workdir; "
    + (f"the checkpoint of step {kept} is kept" if kept else "nothing is kept")
  )


def _save(checkpoints, step, state, notes, best):
  checkpoints.save(step, _trees(state), notes, {best: notes[best]})


def _restore(checkpoints, step, like):
  trees, notes = checkpoints.restore(step, _trees(like))
  (params, rest), *averages = *trees.get("averaged", ()), trees["model"]
  step, opt_state = trees["optimizer"]
  averages = tuple(map(tuple, averages))
  return State(step, params, rest, opt_state, averages), notes


def _trees(state):
  """Returns what a checkpoint holds: what ships, and what goes on with it."""
  *averaged, shipped = state.weights
  trees = {"model": shipped, "optimizer": (state.step, state.opt_state)}
  return {**trees, "averaged": averaged} if averaged else trees
