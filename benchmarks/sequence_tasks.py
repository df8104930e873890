"""What token mixers reach on sequence tasks, at one budget.

  python -m benchmarks.sequence_tasks --workdir=runs/sequence_tasks

Trains each mixer on each task from several seeds by the tasks' own configs,
and writes what their run folders tell to `results/sequence_tasks_cpu.json`.
Stopped, it goes on; several of these share the work, as a folder that one
trains in is passed over by the others.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import pathlib
from typing import Any

from effarch.architectures.attention import ATTENTION
from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder

RESULTS = pathlib.Path("results/sequence_tasks_cpu.json")
# The config of each task, with what its variant has after the mixer.
TASKS = {
  "recall": ("configs.sequence.recall", ""),
  "listops_short": ("configs.lra.listops", ",short"),
  "mnist1d": ("configs.sequence.mnist1d", ""),
}
SEEDS = (0, 1, 2)
_KEPT = ("epoch", "validation/accuracy", "test/accuracy", "test/loss")
_COST = ("params", "macs", "train_seconds")


def variant(task: str, mixer: str, seed: int) -> str:
  """Returns what `--config` has after the file's colon."""
  return f"{mixer}{TASKS[task][1]},seed={seed}"


def possible(task: str, mixer: str) -> bool:
  """Whether a mixer can do a task: recall is a decoder's."""
  return task != "recall" or ATTENTION[mixer].supports.causal


def train(
  task: str, mixer: str, seed: int, workdir: pathlib.Path
) -> dict[str, Any] | None:
  """Trains, or goes on; None where another process does."""
  module, _ = TASKS[task]
  chosen = variant(task, mixer, seed)
  config = importlib.import_module(module).get_config(chosen).to_dict()
  file = module.replace(".", "/") + ".py"
  folder = RunFolder.open(
    workdir / task / f"{mixer},seed={seed}",
    config,
    f"python -m experiments.train --config={file}:{chosen}",
  )
  try:
    return Trial(config).train(folder)
  except UserError as error:
    if "another process" not in str(error):
      raise
    return None


def row(folder: RunFolder) -> dict[str, Any]:
  """Returns what the results keep of one run."""
  result, config = folder.read("result.json"), folder.read("config.json")
  provenance = folder.read_lines("provenance.jsonl")[-1]
  return {
    **{name: result[name] for name in (*_KEPT, *_COST)},
    "model": config["model"],
    "curve": [
      line["validation/accuracy"] for line in folder.read_lines("metrics.jsonl")
    ],
    "provenance": provenance,
  }


def collect(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows of all runs that are finished."""
  rows = []
  for task, mixer in itertools.product(TASKS, ATTENTION):
    for path in sorted((workdir / task).glob(f"{mixer},seed=*")):
      folder = RunFolder(path)
      if folder.has("result.json"):
        seed = int(path.name.partition("seed=")[2])
        found = {"task": task, "mixer": mixer, "seed": seed}
        rows.append({**found, **row(folder)})
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--tasks", nargs="*", default=list(TASKS))
  parser.add_argument("--mixers", nargs="*", default=list(ATTENTION))
  parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
  asked = parser.parse_args()
  for seed, mixer, task in itertools.product(
    asked.seeds, asked.mixers, asked.tasks
  ):
    if possible(task, mixer):
      train(task, mixer, seed, asked.workdir)
  rows = collect(asked.workdir)
  RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
  print(f"{RESULTS}: {len(rows)} runs")


if __name__ == "__main__":
  main()
