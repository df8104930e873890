"""Trainings of benchmarks: shared by processes, kept once by their commands.

Stopped, they go on; a folder that one process trains in is passed over by the
others; what is kept is not trained again, on any machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from effarch.automation.trial import Trial
from effarch.errors import BusyError
from effarch.infrastructure.training import RunFolder

_KEPT = ("epoch", "test/accuracy", "test/loss", "train_seconds")


@dataclasses.dataclass(frozen=True)
class Run:
  """One training.

  Args:
    model: what tells its model from others.
    seed: of the parameters and of the order of examples.
    command: that trains it by hand.
    config: makes its config.
    folder: below the folder of all.
  """

  model: Mapping[str, Any]
  seed: int
  command: str
  config: Callable[[], dict[str, Any]]
  folder: str


def train(
  runs: Iterable[Run], workdir: pathlib.Path, found: dict[str, Any]
) -> None:
  """Trains what is neither kept nor at work elsewhere.

  Args:
    runs: in their order.
    workdir: of all run folders.
    found: what is kept.
  """
  known = commands(found)
  for run in runs:
    if run.command in known:
      continue
    config = run.config()
    folder = RunFolder.open(workdir / run.folder, config, run.command)
    with contextlib.suppress(BusyError):
      Trial(config).train(folder)
    jax.clear_caches()  # A hundred models' programs fill the memory.


def collect(
  runs: Iterable[Run], workdir: pathlib.Path, found: dict[str, Any]
) -> None:
  """Adds what all finished runs tell; equal parts of them once.

  Args:
    runs: in the order that they are kept in.
    workdir: of all run folders.
    found: `models` and `runs`.
  """
  known, order = commands(found), []
  for run in runs:
    order.append(dict(run.model))
    folder = RunFolder(workdir / run.folder)
    if not folder.has("result.json"):
      continue
    result, config = folder.read("result.json"), folder.read("config.json")
    *_, start = folder.read_lines("provenance.jsonl")
    if start["command"] in known:
      continue
    costs = {name: result[name] for name in ("params", "macs")}
    model = {**run.model, **costs, "config": config["model"]}
    if config["techniques"]:
      model["techniques"] = [
        {name: value for name, value in technique.items() if name != "seed"}
        for technique in config["techniques"]
      ]
    if all(kept != model for kept in found["models"]):
      found["models"].append(model)
    best = config["training"]["best"]
    found["runs"].append(
      {
        **run.model,
        "seed": run.seed,
        **{name: result[name] for name in _KEPT},
        "validation": [
          line[f"validation/{best}"]
          for line in folder.read_lines("metrics.jsonl")
        ],
        "provenance": start,
      }
    )

  def place(row: dict[str, Any]) -> tuple[int, int]:
    named = {name: row[name] for name in order[0]}
    return order.index(named), row.get("seed", 0)

  for rows in found.values():
    rows.sort(key=place)


def commands(found: dict[str, Any]) -> set[str]:
  """Returns the commands of the runs that are kept."""
  return {run["provenance"]["command"] for run in found["runs"]}
