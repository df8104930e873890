"""What a trial will cost, found out before anything is trained."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pathlib
import tempfile
import time
from typing import Any

from effarch.automation.trial import Trial
from effarch.infrastructure.cost import latencies
from effarch.infrastructure.export import FORMATS, convert
from effarch.infrastructure.runtime import load
from effarch.infrastructure.training import Loop, RunFolder, fit

_BATCHES = 8


def footprints(trial: Trial) -> list[dict[str, Any]]:
  """Returns the footprint of each file, as it will be after training.

  Training changes numbers and no sizes: bytes are those of what will ship, but
  for what a format stores once that is there twice.

  Returns:
    Rows of `precision`, `format`, `size_bytes`, `latency_us` (the median, all
    files timed in turns), and the model's `params` and `macs`.

  Raises:
    UserError: a technique of the trial needs a run that is not finished.
  """
  example = trial.source.example()
  rows, models = [], []
  with tempfile.TemporaryDirectory() as folder:
    for precision, model in trial.untrained():
      cost = trial.cost(model)
      for kind in trial.export.formats:
        file = pathlib.Path(folder, f"{precision}{FORMATS[kind].suffix}")
        file.write_bytes(convert(model, example, kind))
        models.append(load(file))
        rows.append(
          {
            "precision": precision,
            "format": kind,
            "size_bytes": file.stat().st_size,
            "params": cost.params,
            "macs": cost.macs,
          }
        )
    timed = latencies([model.inference() for model in models])
  return [
    {**row, "latency_us": times.p50_us}
    for row, times in zip(rows, timed, strict=True)
  ]


def training_seconds(trial: Trial) -> tuple[float, float]:
  """Returns how long all steps of a training take here, and all around them.

  A few batches are trained on, in a folder that is thrown away. What is around
  is what the first step compiles, and evaluation and checkpoints once.
  """
  train, size = trial.source.load("train"), trial.loop.batch_size
  few = dataclasses.replace(
    train,
    inputs=train.inputs[: _BATCHES * size],
    labels=train.labels[: _BATCHES * size],
  )
  loop: Loop = dataclasses.replace(trial.loop, epochs=2, evaluate_every=2)
  steps = trial.loop.epochs * loop.steps_per_epoch(len(train))
  start = time.perf_counter()
  with (
    tempfile.TemporaryDirectory() as folder,
    contextlib.redirect_stdout(io.StringIO()),
  ):
    result = fit(
      trial.model(),
      few,
      few,
      loop=loop,
      optimizer=trial.optimizer(steps),
      folder=RunFolder(folder),
      seed=trial.seed,
      techniques=trial.techniques,
    )
  taken = time.perf_counter() - start
  each = result["step_seconds"]
  return steps * each, taken - result["step"] * each
