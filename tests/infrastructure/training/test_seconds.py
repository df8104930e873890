"""The times that a training tells, by clocks of the test's own."""

import itertools
import types

import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import Loop, RunFolder, fit
from effarch.infrastructure.training import loop as loop_module

DATA = Dataset(
  np.eye(8, dtype=np.float32), np.arange(8, dtype=np.int32) % 2, ("a", "b")
)
# Of two steps each.
EPOCHS = 4


class InterruptionError(Exception):
  pass


def train(folder, **changes):
  return fit(
    nnx.Linear(8, 2, rngs=nnx.Rngs(0)),
    DATA,
    DATA,
    loop=Loop(**{"epochs": EPOCHS, "batch_size": 4, **changes}),
    optimizer=optax.sgd(0.1),
    folder=RunFolder(folder),
  )


def train_and_die(folder, monkeypatch, epoch):
  """Trains until the evaluation of this epoch is saved."""

  def dying(self, row):
    if row["epoch"] == epoch:
      raise InterruptionError

  with monkeypatch.context() as patch:
    patch.setattr(loop_module.Progress, "evaluated", dying)
    with pytest.raises(InterruptionError):
      train(folder)


def set_clock(monkeypatch, ticks):
  """Lets this much time pass before each look of the loop at its clock."""
  now = itertools.accumulate(ticks).__next__
  clock = types.SimpleNamespace(perf_counter=now)
  monkeypatch.setattr(loop_module, "time", clock)


def test_steps_and_evaluations_are_the_trainings_time(tmp_path, monkeypatch):
  # The loop looks when an epoch begins, when its steps are done, and when it
  # is judged, which of five the second, the fourth and the last are.
  judged = (100.0, 1.0, 10.0)
  set_clock(monkeypatch, [100.0, 1.0, *judged, 100.0, 1.0, *judged, *judged])
  result = train(tmp_path, epochs=5, evaluate_every=2)
  assert result["train_seconds"] == 5 * 1 + 3 * 10
  assert result["step_seconds"] == 1 / 2


def test_a_steps_time_is_without_what_compiles(tmp_path, monkeypatch):
  first, other = (100.0, 60.0, 10.0), (100.0, 1.0, 10.0)
  set_clock(monkeypatch, [*first, *other])
  train_and_die(tmp_path, monkeypatch, 2)
  set_clock(monkeypatch, [*first, 100.0, 3.0, 10.0])
  result = train(tmp_path)
  assert result["train_seconds"] == 60 + 1 + 60 + 3 + 4 * 10
  assert result["step_seconds"] == (1 + 3) / 4
  # With nothing left to train, the same again.
  assert train(tmp_path) == result


def test_of_one_epoch_there_is_but_the_training(tmp_path, monkeypatch):
  set_clock(monkeypatch, [100.0, 60.0, 10.0])
  result = train(tmp_path, epochs=1)
  assert result["step_seconds"] == 70 / 2
