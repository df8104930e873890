"""Artifacts: the files that a trained model ships as, and what they reach."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from effarch.infrastructure.cost import latencies
from effarch.infrastructure.data import Dataset, decode
from effarch.infrastructure.data.dataset import UNASKED
from effarch.infrastructure.export.litert import convert
from effarch.infrastructure.runtime import LiteRTModel
from effarch.infrastructure.training import RunFolder, processor


def ship(
  models: Iterable[tuple[str, nnx.Module]],
  folder: RunFolder,
  *,
  validation: Dataset,
  test: Dataset,
) -> list[dict[str, Any]]:
  """Writes `artifacts/<precision>.tflite`, and beside each what it reaches.

  Args:
    models: the name of a precision, and the model that computes in it, in
      evaluation mode.
    folder: of its run.
    validation: for decisions about the artifact.
    test: for its reported accuracy.

  Returns:
    What `artifacts/<precision>.json` holds: `file`, `precision`,
    `size_bytes`, `accuracy` and `validation_accuracy` of the file in its
    runtime, `jax_accuracy` of the model, and `differs`, the number of test
    examples (or of their tokens) on which file and model disagree.
  """
  one = jax.eval_shape(decode, test.inputs[:1])
  rows = []
  for precision, model in models:
    name = f"artifacts/{precision}.tflite"
    folder.write_bytes(name, convert(model, one))
    expected = predictions(model, test)
    shipped = LiteRTModel(folder.path / name)
    answers = _classes(shipped, test)
    row = {
      "file": name,
      "precision": precision,
      "size_bytes": (folder.path / name).stat().st_size,
      "accuracy": _accuracy(answers, test),
      "validation_accuracy": _accuracy(
        _classes(shipped, validation), validation
      ),
      "jax_accuracy": _accuracy(expected, test),
      "differs": int(np.sum(answers != expected)),
    }
    folder.write(f"artifacts/{precision}.json", row)
    rows.append(row)
  return rows


def read_artifacts(folder: RunFolder) -> list[dict[str, Any]]:
  """Returns what `ship` wrote, by precision; empty before it did."""
  found = sorted(pathlib.Path(folder.path, "artifacts").glob("*.json"))
  return [folder.read(f"artifacts/{path.name}") for path in found]


def time_artifacts(folders: Sequence[RunFolder]) -> None:
  """Adds latencies to every artifact of these runs, all timed in turns.

  `latency_us` is the median, with `latency_p90_us`, `latency_p99_us`,
  `latency_threads`, `latency_device`, and `latency_measured`, the time that
  names this measurement. Latencies compare only within one: nothing is timed
  if one measurement covers all, else all are.
  """
  found = [
    (folder, row) for folder in folders for row in read_artifacts(folder)
  ]
  known = {row.get("latency_measured") for _, row in found}
  if len(known) == 1 and None not in known:
    return
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
  models = [LiteRTModel(folder.path / row["file"]) for folder, row in found]
  timed = latencies([model.inference() for model in models])
  for (folder, row), times in zip(found, timed, strict=True):
    row.update(
      latency_us=times.p50_us,
      latency_p90_us=times.p90_us,
      latency_p99_us=times.p99_us,
      latency_threads=1,
      latency_device=processor(),
      latency_measured=now,
    )
    folder.write(f"artifacts/{row['precision']}.json", row)


def predictions(
  model: nnx.Module, dataset: Dataset, batch_size: int = 500
) -> np.ndarray:
  """Returns the likeliest classes by the JAX model, `N` or `N T`."""
  graphdef, state = nnx.split(model)

  @jax.jit
  def classes(state, inputs):
    return nnx.merge(graphdef, state)(decode(inputs)).argmax(-1)

  batches = [
    classes(state, dataset.inputs[start : start + batch_size])
    for start in range(0, len(dataset), batch_size)
  ]
  return np.concatenate(batches)


def _accuracy(answers: np.ndarray, dataset: Dataset) -> float:
  asked = dataset.labels != UNASKED
  return float(np.mean(answers[asked] == dataset.labels[asked]))


def _classes(model: LiteRTModel, dataset: Dataset) -> np.ndarray:
  return model(np.asarray(decode(dataset.inputs))).argmax(-1)
