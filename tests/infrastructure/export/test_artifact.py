"""What is recorded of a file is that file's own, and of one measurement."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.infrastructure import runtime
from effarch.infrastructure.cost import Latency
from effarch.infrastructure.data import Dataset, decode
from effarch.infrastructure.export import (
  artifact,
  convert,
  read_artifacts,
  ship,
  time_artifacts,
)
from effarch.infrastructure.training import RunFolder

SHAPE = (2, 5, 1)
ALL = (1.0,) * 10
HALF = (1.0,) * 5 + (0.0,) * 5


class Brightest(nnx.Module):
  """Answers with the place of the largest of the weighted pixels."""

  def __init__(self, weights: tuple[float, ...]):
    self.weights = nnx.Param(jnp.array(weights))

  def __call__(self, inputs):
    return inputs.reshape(len(inputs), -1) * self.weights[...]


def answers(dataset: Dataset, weights: tuple[float, ...]) -> np.ndarray:
  pixels = np.asarray(decode(dataset.inputs)).reshape(len(dataset), -1)
  return (pixels * weights).argmax(-1)


def images(size: int, seed: int) -> Dataset:
  """About three in four labels are the place of the brightest pixel."""
  generator = np.random.default_rng(seed)
  inputs = generator.integers(0, 256, (size, *SHAPE)).astype(np.uint8)
  brightest = inputs.reshape(size, -1).argmax(-1)
  others = generator.integers(0, 10, size)
  labels = np.where(generator.random(size) < 0.7, brightest, others)
  return Dataset(inputs, labels.astype(np.int32), tuple("0123456789"))


@pytest.fixture
def parts():
  return {"validation": images(40, 1), "test": images(50, 2)}


def test_a_file_that_answers_otherwise_is_told_from_its_model(
  parts, tmp_path, monkeypatch
):
  other = convert(
    Brightest(HALF), jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
  )
  monkeypatch.setattr(artifact, "convert", lambda *_: other)
  (row,) = ship([("other", Brightest(ALL))], RunFolder(tmp_path), **parts)
  validation, test = parts["validation"], parts["test"]
  model, file = answers(test, ALL), answers(test, HALF)
  assert 0 < row["differs"] < len(test)
  assert row["differs"] == np.sum(model != file)
  assert row["jax_accuracy"] == np.mean(model == test.labels)
  assert row["accuracy"] == np.mean(file == test.labels)
  assert row["validation_accuracy"] == np.mean(
    answers(validation, HALF) == validation.labels
  )


class Stub:
  """A file whose inference gives the file's path, which tells its times."""

  threads = 1

  def __init__(self, path):
    self.path = path

  def inference(self):
    return lambda: self.path


@pytest.fixture
def timed(monkeypatch):
  """The paths of each round of timing; a file's times follow from its path."""
  rounds = []

  def latencies(functions):
    rounds.append([function() for function in functions])
    time.sleep(0.002)  # A measurement's name has milliseconds.
    return [times(path) for path in rounds[-1]]

  monkeypatch.setattr(artifact, "load", Stub)
  monkeypatch.setattr(artifact, "latencies", latencies)
  return rounds


def times(path) -> Latency:
  unit = {"a": 1.0, "b": 2.0}[path.parts[-3]]
  if path.stem == "int8":
    unit /= 10
  return Latency(unit, unit + 100, unit + 200, 200, unit, unit)


def add_artifact(folder: RunFolder, precision: str) -> None:
  name = f"artifacts/{precision}"
  row = {"file": f"{name}.tflite", "precision": precision}
  folder.write(f"{row['file']}.json", row)


@pytest.fixture
def runs(tmp_path):
  """Two runs: `a` shipped both files, `b` one."""
  a, b = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
  add_artifact(a, "float32")
  add_artifact(a, "int8")
  add_artifact(b, "int8")
  return a, b


def test_every_file_gets_its_own_latencies(runs, timed):
  time_artifacts(runs)
  assert len(timed) == 1
  for folder in runs:
    for row in read_artifacts(folder):
      own = times(folder.path / row["file"])
      assert row["latency_us"] == own.p50_us
      assert row["latency_p90_us"] == own.p90_us
      assert row["latency_p99_us"] == own.p99_us


def test_what_was_measured_apart_is_measured_anew_together(runs, timed):
  def measurements():
    rows = [row for folder in runs for row in read_artifacts(folder)]
    return {row["latency_measured"] for row in rows}

  a, b = runs
  time_artifacts([a])
  time_artifacts([b])
  apart = measurements()
  assert len(apart) == 2
  time_artifacts([a, b])
  (together,) = measurements()
  assert together not in apart
  time_artifacts([a, b])
  assert [len(paths) for paths in timed] == [2, 1, 3]
  # One file that is new has nothing to be compared with.
  add_artifact(b, "float32")
  time_artifacts([a, b])
  assert len(timed[-1]) == 4
  assert len(measurements()) == 1


def test_the_runtime_has_the_threads_that_are_recorded(
  parts, tmp_path, monkeypatch
):
  folder = RunFolder(tmp_path)
  ship([("float32", Brightest(ALL))], folder, **parts)
  original, threads = runtime.litert.Interpreter, []

  def interpreter(**kwargs):
    threads.append(kwargs["num_threads"])
    return original(**kwargs)

  monkeypatch.setattr(runtime.litert, "Interpreter", interpreter)
  time_artifacts([folder])
  (row,) = read_artifacts(folder)
  assert threads == [row["latency_threads"]] == [1]
