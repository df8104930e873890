"""The loop on eight-pixel images: exact resume, hooks, stops, any mesh."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.errors import UserError
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import (
  Loop,
  RunFolder,
  Technique,
  best_model,
  evaluate,
  fit,
)
from effarch.infrastructure.training import loop as loop_module
from effarch.infrastructure.training.batches import Batches


class Net(nnx.Module):
  """Everything that a state can hold: BatchNorm statistics, dropout's key."""

  def __init__(self, rngs):
    self.hidden = nnx.Linear(8, 8, rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.dropout = nnx.Dropout(0.2, rngs=rngs)
    self.out = nnx.Linear(8, 2, rngs=rngs)

  def __call__(self, x):
    x = self.norm(nnx.relu(self.hidden(x)))
    return self.out(self.dropout(x))


def blobs(size: int, seed: int) -> Dataset:
  """Two classes that a line almost separates."""
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, 2, size).astype(np.int32)
  inputs = generator.normal(size=(size, 8)) + labels[:, None]
  return Dataset(inputs.astype(np.float32), labels, ("left", "right"))


class InterruptionError(Exception):
  pass


TRAIN, VALIDATION = blobs(67, seed=0), blobs(21, seed=1)
LOOP = Loop(epochs=4, batch_size=16)
EXAMPLE = jax.ShapeDtypeStruct((1, 8), jnp.float32)


def train(folder, *, loop=LOOP, techniques=(), optimizer=None, seed=0):
  return fit(
    Net(nnx.Rngs(0)),
    TRAIN,
    VALIDATION,
    loop=loop,
    optimizer=optimizer or optax.adam(1e-2),
    folder=RunFolder(folder),
    seed=seed,
    techniques=techniques,
  )


def trained(folder, techniques=()):
  return best_model(Net(nnx.Rngs(9)), RunFolder(folder), EXAMPLE, techniques)


def trained_state(folder, techniques=()):
  return nnx.state(trained(folder, techniques))


def lines(folder):
  return (folder / "metrics.jsonl").read_bytes()


@pytest.fixture
def first_epochs(monkeypatch):
  """Where each training of the test begins."""
  seen = []

  class Watching(loop_module.Progress):
    def __init__(self, title, loop, steps_per_epoch, first_epoch):
      seen.append(first_epoch)
      super().__init__(title, loop, steps_per_epoch, first_epoch)

  monkeypatch.setattr(loop_module, "Progress", Watching)
  return seen


def without_time(result):
  return {k: v for k, v in result.items() if not k.endswith("_seconds")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed")
  return folder, train(folder)


def test_loss_falls_and_every_epoch_is_recorded(undisturbed):
  folder, result = undisturbed
  rows = [json.loads(line) for line in lines(folder).splitlines()]
  assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
  assert [row["step"] for row in rows] == [4, 8, 12, 16]
  assert rows[-1]["train/loss"] < rows[0]["train/loss"]
  assert result["validation/accuracy"] == max(
    row["validation/accuracy"] for row in rows
  )


def test_validation_judges_the_model_as_it_will_be_used(undisturbed):
  folder, result = undisturbed
  for name, value in evaluate(trained(folder), VALIDATION).items():
    assert result[f"validation/{name}"] == pytest.approx(value, rel=1e-5)


def test_each_epoch_and_seed_has_an_order_of_its_own(tmp_path, monkeypatch):
  seen = []

  class Watched(Batches):
    def epoch(self, *args):
      for length, places in super().epoch(*args):
        seen.append(places)
        yield length, places

  monkeypatch.setattr(loop_module, "Batches", Watched)
  orders = []
  for seed in (0, 1):
    seen.clear()
    train(tmp_path / str(seed), seed=seed)
    orders += [*np.concatenate(seen).reshape(LOOP.epochs, -1)]
  assert len({order.tobytes() for order in orders}) == 2 * LOOP.epochs
  for order in orders:
    assert len(np.unique(order)) == 64


def test_evaluates_now_and_then_and_at_the_end(tmp_path):
  train(tmp_path, loop=Loop(5, 16, evaluate_every=2))
  rows = RunFolder(tmp_path).read_lines("metrics.jsonl")
  assert [row["epoch"] for row in rows] == [2, 4, 5]


@dataclasses.dataclass(frozen=True)
class Dice(Technique):
  """Shows the random numbers that it is given as a metric."""

  def batch(self, batch, rng):
    return {**batch, "dice": jax.random.uniform(rng, (len(batch["labels"]),))}

  def loss(self, loss_fn):
    def shown(model, batch):
      losses, metrics = loss_fn(model, batch)
      return losses, {**metrics, "dice": batch["dice"]}

    return shown


def test_random_numbers_are_new_at_each_step_and_for_each_seed(tmp_path):
  thrown = []
  for seed in (0, 1):
    folder = tmp_path / str(seed)
    # A step an epoch.
    train(folder, loop=Loop(4, 64), techniques=[Dice()], seed=seed)
    rows = RunFolder(folder).read_lines("metrics.jsonl")
    thrown += [row["train/dice"] for row in rows]
  assert len(set(thrown)) == 8


def test_same_seed_same_bits_and_another_seed_others(undisturbed, tmp_path):
  folder, _ = undisturbed
  train(tmp_path / "again")
  assert lines(tmp_path / "again") == lines(folder)
  chex.assert_trees_all_equal(
    trained_state(tmp_path / "again"), trained_state(folder)
  )
  train(tmp_path / "other", seed=1)
  assert lines(tmp_path / "other") != lines(folder)


@pytest.mark.parametrize("moment", ["log", "save", "after"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_resumes_bit_for_bit(
  undisturbed, tmp_path, monkeypatch, first_epochs, moment, epoch
):
  """An interruption around the epoch's checkpoint changes nothing."""
  folder, result = undisturbed
  calls = 0
  target, name = {
    "log": (loop_module.MetricLog, "write"),
    "save": (loop_module.Checkpoints, "save"),
    "after": (loop_module.Progress, "evaluated"),
  }[moment]
  original = getattr(target, name)

  def dying(self, *args, **kwargs):
    nonlocal calls
    calls += 1
    if calls == epoch and moment == "save":
      raise InterruptionError
    value = original(self, *args, **kwargs)
    if calls == epoch:
      raise InterruptionError
    return value

  with monkeypatch.context() as patch:
    patch.setattr(target, name, dying)
    with pytest.raises(InterruptionError):
      train(tmp_path)
  # What a process that dies in the middle of a line leaves.
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"step": 99, "epo')
  resumed = train(tmp_path)
  # Without a checkpoint of this epoch it is trained again, else not.
  assert first_epochs == [0, epoch if moment == "after" else epoch - 1]
  assert lines(tmp_path) == lines(folder)
  assert without_time(resumed) == without_time(result)
  chex.assert_trees_all_equal(trained_state(tmp_path), trained_state(folder))


def test_a_finished_run_is_not_trained_again(tmp_path, first_epochs):
  train(tmp_path)
  before = lines(tmp_path)
  trained_state(tmp_path)
  train(tmp_path)
  assert lines(tmp_path) == before
  assert first_epochs == [0, LOOP.epochs]


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("steps", [3, 4])
def test_steps_in_one_dispatch_change_nothing(
  undisturbed, tmp_path, monkeypatch, scanned, steps
):
  """Neither unrolled nor as a loop, whether or not they divide an epoch."""
  name = "effarch.infrastructure.training.steps.unrolled"
  monkeypatch.setattr(name, lambda: not scanned)
  train(tmp_path, loop=dataclasses.replace(LOOP, steps_per_dispatch=steps))
  for row, expected in zip(
    RunFolder(tmp_path).read_lines("metrics.jsonl"),
    RunFolder(undisturbed[0]).read_lines("metrics.jsonl"),
    strict=True,
  ):
    chex.assert_trees_all_close(row, expected, rtol=1e-5)


def test_best_checkpoint_is_by_validation_alone(tmp_path, monkeypatch):
  """The epoch that validation prefers is what `best_model` returns."""
  accuracies, states = iter([0.5, 0.9, 0.9, 0.3]), []

  def judged(self, params, rest):
    states.append(jax.device_get(params))
    return {"loss": 1.0, "accuracy": next(accuracies)}

  monkeypatch.setattr(loop_module.Evaluator, "__call__", judged)
  result = train(tmp_path)
  assert result["epoch"] == 3  # Of equals the later.
  best = trained(tmp_path)
  chex.assert_trees_all_equal(nnx.state(best, nnx.Param), states[2])
  kept = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()}
  assert kept == {"12", "16"}


class Poison(Technique):
  """Makes one step's inputs NaN."""

  def __init__(self, step):
    self.step = step

  def optimizer(self, tx):
    def update(updates, state, params=None):
      inner, count = state
      updates, inner = tx.update(updates, inner, params)
      bad = jnp.where(count == self.step, jnp.nan, 0.0)
      updates = jax.tree.map(lambda u: u + bad, updates)
      return updates, (inner, count + 1)

    return optax.GradientTransformation(
      lambda params: (tx.init(params), jnp.zeros((), jnp.int32)), update
    )


@pytest.mark.parametrize("per_dispatch", [1, 4])
def test_stops_at_the_first_nan(tmp_path, per_dispatch):
  loop = dataclasses.replace(LOOP, steps_per_dispatch=per_dispatch)
  # The update of step 6 (from 1) breaks the parameters, so step 7 sees NaN.
  with pytest.raises(FloatingPointError, match=r"nan at step 7;.*step 4 is"):
    train(tmp_path, loop=loop, techniques=[Poison(5)])
  assert len(lines(tmp_path).splitlines()) == 1


def test_nan_after_the_last_step_reaches_no_checkpoint(tmp_path):
  with pytest.raises(FloatingPointError, match="validation loss is nan"):
    train(tmp_path, techniques=[Poison(3)])
  with pytest.raises(UserError, match="holds no checkpoint"):
    trained_state(tmp_path)


@dataclasses.dataclass(frozen=True)
class Recorder(Technique):
  """Wraps the loss in a factor, and notes the order of the hooks."""

  factor: float
  notes: list = dataclasses.field(default_factory=list, hash=False)

  def model(self, model, _):
    self.notes.append(("model", self.factor))
    return model

  def loss(self, loss_fn):
    def scaled(model, batch):
      losses, metrics = loss_fn(model, batch)
      return self.factor * losses + self.factor, metrics

    return scaled

  def finish(self, model):
    self.notes.append(("finish", self.factor))
    return model


def test_techniques_compose_in_the_order_listed(tmp_path, undisturbed):
  notes = []
  techniques = [Recorder(2.0, notes), Recorder(3.0, notes)]
  train(tmp_path, techniques=techniques, optimizer=optax.sgd(0.0))
  train(tmp_path / "plain", optimizer=optax.sgd(0.0))
  trained_state(tmp_path, techniques)
  row = RunFolder(tmp_path).read_lines("metrics.jsonl")[0]
  plain = RunFolder(tmp_path / "plain").read_lines("metrics.jsonl")[0]
  # 3 (2 loss + 2) + 3: the last listed is outermost.
  assert row["train/loss"] == pytest.approx(6 * plain["train/loss"] + 9)
  # Evaluation keeps the plain loss.
  assert row["validation/loss"] == pytest.approx(plain["validation/loss"])
  made = [("model", 2.0), ("model", 3.0)]  # To be trained, then restored.
  assert notes == [*made, *made, ("finish", 2.0), ("finish", 3.0)]


def test_the_step_compiles_once(tmp_path):
  chex.clear_trace_counter()
  traced = chex.assert_max_traces(n=1)

  @dataclasses.dataclass(frozen=True)
  class Counting(Technique):
    def loss(self, loss_fn):
      return traced(loss_fn)

  train(tmp_path, techniques=[Counting()])
