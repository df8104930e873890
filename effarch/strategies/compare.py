"""A comparison: arms of one technique each, from several seeds, and judged."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from effarch.infrastructure.training import RunFolder, provenance
from effarch.strategies.arms import Command, plan
from effarch.strategies.verdict import EPOCHS, PLAIN, TIME, judge


def run(
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  command: Command,
  typed: str = "",
) -> dict[str, Any]:
  """Trains every arm from every seed, and judges; takes up what was begun.

  Args:
    config: a trial's, and `compare`.
    workdir: the comparison's folder; each run gets one in it.
    command: makes what would repeat a run.
    typed: what would repeat all of it.

  Returns:
    What `comparison.json` in `workdir` holds: the config, `teachers` and
    `runs` with their numbers and provenance, and `verdicts`.
  """
  chosen, teachers, arms = plan(config, workdir)
  taught = [each.train(workdir, command) for each in teachers]
  full = [
    {**each.train(workdir, command), "budgets": [EPOCHS]} for each in arms
  ]
  shorter = []
  for each, row in zip(arms, full, strict=True) if chosen.time else ():
    epochs = epochs_in_time(full, each.arm)
    if epochs == row["epochs"]:
      row["budgets"].append(TIME)  # Not trained twice.
    else:
      row = each.for_epochs(epochs).train(workdir, command)
      shorter.append({**row, "budgets": [TIME]})
  record = {
    "config": dict(config),
    "teachers": taught,
    "runs": [*full, *shorter],
    "verdicts": judge([*full, *shorter]),
    "provenance": provenance(typed),
  }
  RunFolder(workdir).write("comparison.json", record)
  return record


def epochs_in_time(runs: Sequence[Mapping[str, Any]], arm: str) -> int:
  """Returns in how many epochs an arm's steps take as long as plain's.

  Those are the nearest whole number, at least one and at most plain's. A step's
  time is the median over the seeds.

  Args:
    runs: a record's, of equal epochs.
    arm: its name.
  """

  def step_seconds(name):
    return statistics.median(
      each["step_seconds"] for each in runs if each["arm"] == name
    )

  epochs = runs[0]["epochs"]
  share = step_seconds(PLAIN) / step_seconds(arm)
  return max(1, min(epochs, round(epochs * share)))
