"""What a strategy will do, and what it did: which step bought what."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from effarch.automation.footprint import training_seconds
from effarch.automation.trial import Trial
from effarch.infrastructure.training import RunFolder, provenance
from effarch.strategies.frontier import hypervolume
from effarch.strategies.lab import Lab, Tried, validated
from effarch.strategies.strategy import Planned, Strategy


def show_plan(plan: Sequence[Planned], lab: Lab, console: Console) -> None:
  """Prints a plan, with the time that it may take on this machine.

  A few steps of the start are taken to know that; what was trained before is
  not subtracted. A teacher that is still to be trained is taken for the start,
  so that larger ones take longer.
  """
  steps, around = training_seconds(Trial(lab.start.config))
  table = Table(title="Plan", title_justify="left")
  table.add_column("step", overflow="fold")
  for head in ("trainings", "cost", "time"):
    table.add_column(head, justify="right")
  total = 0.0
  for each in plan:
    trainings = each.candidates * len(lab.seeds)
    seconds = each.price * steps + trainings * around
    total += seconds
    cells = (f"{trainings}", f"{each.price:.1f}", _minutes(seconds))
    table.add_row(escape(each.what), *cells)
  console.print(table)
  console.print(
    "Costs are in trainings of the start from one seed; together about "
    f"{_minutes(total)}"
  )


def _minutes(seconds: float) -> str:
  return time.strftime("%H:%M:%S", time.gmtime(seconds))


def tell_story(
  strategy: Strategy, lab: Lab, best: Tried | None, typed: str
) -> dict[str, Any]:
  """Writes `strategy.json` and returns what it holds.

  Args:
    strategy: that was run.
    lab: where.
    best: what it found.
    typed: what a user would type to repeat it.

  Returns:
    `limits`; `steps`, of each candidate in the order of training its name,
    step and parent, what the best of its files within the limits (or else of
    all) reached and costs, and `gain` over its parent on validation data;
    `best`, the name of what was found; `before` and `after`, the hypervolume of
    the start's files and of all.
  """
  limits = strategy.limits_of(lab)
  steps: dict[str, dict[str, Any]] = {}
  for tried in lab.tried:
    candidate = tried.candidate
    file = tried.best(limits) or tried.best()
    assert file is not None
    found = validated(file)
    parent = steps.get(candidate.parent)
    steps[candidate.name] = {
      "name": candidate.name,
      "step": candidate.step,
      "parent": candidate.parent,
      "within": tried.best(limits) is not None,
      **file,
      "gain": parent and found - parent["validation_mean"],
      "validation_mean": found,
      "train_seconds": tried.train_seconds,
    }
  before, after = _volumes(lab.tried)
  story = {
    "limits": [dataclasses.asdict(limit) for limit in limits],
    "steps": list(steps.values()),
    "best": best.candidate.name if best else None,
    "before": before,
    "after": after,
    "provenance": provenance(typed),
  }
  RunFolder(lab.workdir).write("strategy.json", story)
  return story


def _volumes(tried: Sequence[Tried]) -> tuple[float, float]:
  """Returns shares of the box of accuracy and log bytes that are dominated."""
  points = [
    [
      (statistics.fmean(f["accuracy"]), -np.log(f["size_bytes"]))
      for f in t.files
    ]
    for t in tried
  ]
  everything = np.concatenate([np.reshape(each, (-1, 2)) for each in points])
  worst, best = everything.min(0), everything.max(0)
  width = np.where(best > worst, best - worst, 1.0)
  # Just below the worst, which so counts a little.
  corner = np.full(2, -0.01)
  before, after = (
    hypervolume((np.asarray(each) - worst) / width, corner) / 1.01**2
    for each in (points[0], everything)
  )
  return before, after


def show_story(story: dict[str, Any], console: Console) -> None:
  """Prints what each step bought, and at which cost."""
  table = Table(title="Steps; ● is what was found", title_justify="left")
  table.add_column("")
  for head in ("model", "of", "file"):
    table.add_column(head, overflow="fold")
  for head in ("validation, %", "gain", "test, %", "bytes", "µs", "trained, s"):
    table.add_column(head, justify="right")
  for step in story["steps"]:
    gain = step["gain"]
    table.add_row(
      "●" if step["name"] == story["best"] else "",
      escape(step["name"]),
      escape(step["parent"]),
      step["precision"],
      _spread(step["validation_accuracy"]),
      "" if gain is None else f"{100 * gain:+.1f}",
      _spread(step["accuracy"]),
      f"{step['size_bytes']:,}",
      f"{step['latency_us']:.0f}",
      f"{step['train_seconds']:.0f}",
      style="" if step["within"] else "dim",
    )
  console.print(table)
  within = " and ".join(
    f"{limit['column']} <= {limit['most']:,.0f}" for limit in story["limits"]
  )
  if story["best"] is None:
    console.print(f"No model has a file with {within}.")
  console.print(
    f"Files with {within} are bright. All files dominate {story['after']:.1%} "
    "of the box of accuracy and log bytes between the worst and the best, "
    f"those of the start {story['before']:.1%}."
  )


def _spread(values: Sequence[float]) -> str:
  mean = f"{100 * statistics.fmean(values):.1f}"
  if len(values) == 1:
    return mean
  return f"{mean} ± {100 * statistics.stdev(values):.1f}"
