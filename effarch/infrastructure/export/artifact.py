"""Artifacts: the files that a trained model ships as, and what they reach."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from effarch.infrastructure.cost import latencies
from effarch.infrastructure.data import Dataset, decode
from effarch.infrastructure.data.dataset import UNASKED
from effarch.infrastructure.export.formats import FORMATS, convert
from effarch.infrastructure.runtime import load
from effarch.infrastructure.training import RunFolder, processor


def ship(
  models: Iterable[tuple[str, nnx.Module]],
  folder: RunFolder,
  *,
  validation: Dataset,
  test: Dataset,
  formats: Sequence[str] = ("litert",),
) -> list[dict[str, Any]]:
  """Writes `artifacts/<precision>.<suffix>`, and beside each what it reaches.

  Args:
    models: the name of a precision, and the model that computes in it, in
      evaluation mode.
    folder: of its run.
    validation: for decisions about the artifact.
    test: for its reported accuracy.
    formats: of `FORMATS`; a file in each.

  Returns:
    What `<file>.json` holds: `file`, `precision`, `format`, `size_bytes`,
    `accuracy` and `validation_accuracy` of the file in its
    runtime, `jax_accuracy` of the model, and `differs`, the number of test
    examples (or of their tokens) on which file and model disagree.
  """
  one = jax.eval_shape(decode, test.inputs[:1])
  rows = []
  for precision, model in models:
    expected = predictions(model, test)
    for kind in formats:
      name = f"artifacts/{precision}{FORMATS[kind].suffix}"
      folder.write_bytes(name, convert(model, one, kind))
      shipped = load(folder.path / name)
      answers = _classes(shipped, test)
      judged = _classes(shipped, validation)
      row = {
        "file": name,
        "precision": precision,
        "format": kind,
        "size_bytes": (folder.path / name).stat().st_size,
        "accuracy": _accuracy(answers, test),
        "validation_accuracy": _accuracy(judged, validation),
        "jax_accuracy": _accuracy(expected, test),
        "differs": int(np.sum(answers != expected)),
      }
      folder.write(f"{name}.json", row)
      rows.append(row)
  return rows


def read_artifacts(folder: RunFolder) -> list[dict[str, Any]]:
  """Returns what `ship` wrote, by name; empty before it did."""
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
  models = [load(folder.path / row["file"]) for folder, row in found]
  timed = latencies([model.inference() for model in models])
  for (folder, row), model, times in zip(found, models, timed, strict=True):
    row.update(
      latency_us=times.p50_us,
      latency_p90_us=times.p90_us,
      latency_p99_us=times.p99_us,
      latency_threads=model.threads,
      latency_device=processor(),
      latency_measured=now,
    )
    folder.write(f"{row['file']}.json", row)


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


def _classes(
  model: Callable[[np.ndarray], np.ndarray], dataset: Dataset
) -> np.ndarray:
  return model(np.asarray(decode(dataset.inputs))).argmax(-1)
