"""What token mixers reach on sequence tasks, at one budget.

  python -m benchmarks.sequence_tasks --workdir=runs/sequence_tasks --text=FILE

Trains each mixer on each task from several seeds by the tasks' own configs,
and adds what the run folders tell to `results/sequence_tasks_cpu.json`; what is
there by the same command is not trained again. Stopped, it goes on; several of
these share the work.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from benchmarks.runs import Run, collect, train
from configs.lra import listops
from configs.sequence import language, mnist1d, recall
from effarch.architectures.attention import ATTENTION

RESULTS = pathlib.Path("results/sequence_tasks_cpu.json")
SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Task:
  """A config and how it is asked.

  Args:
    file: of the config.
    get_config: from a variant to the config.
    variant: after the mixer.
    mixers: those compared.
  """

  file: str
  get_config: Callable[[str], ConfigDict]
  variant: str
  mixers: tuple[str, ...]


_ALL = (
  *("full", "sliding_window", "reformer", "linear", "performer", "retnet"),
  *("gated_linear", "delta", "gated_delta", "mamba2", "s4d", "hyena"),
  *("longformer", "linformer", "fnet", "gmlp", "aft"),
)
TASKS = {
  "recall": Task(
    *("configs/sequence/recall.py", recall.get_config, ",epochs=6"),
    tuple(name for name in _ALL if ATTENTION[name].supports.causal),
  ),
  "listops_short": Task(
    *("configs/lra/listops.py", listops.get_config, ",short,epochs=1", _ALL)
  ),
  "mnist1d": Task(
    *("configs/sequence/mnist1d.py", mnist1d.get_config, ",epochs=10", _ALL)
  ),
  "language": Task(
    *("configs/sequence/language.py", language.get_config),
    ",features=64,hidden=128,epochs=3,batch=8",
    ("full", "sliding_window", "linear", "gated_linear", "delta", "mamba2"),
  ),
}


def command(
  task: str, mixer: str, seed: int, text: pathlib.Path | None = None
) -> str:
  """Returns the command line that trains this.

  Args:
    task: a key of `TASKS`.
    mixer: a key of `ATTENTION`.
    seed: of the parameters and of the order of examples.
    text: what language is modelled of.
  """
  found = f"python -m experiments.train --config={TASKS[task].file}:"
  found += _variant(task, mixer, seed)
  return found if text is None else f"{found} --config.data.path={text.name}"


def _variant(task: str, mixer: str, seed: int) -> str:
  return f"{mixer}{TASKS[task].variant},seed={seed}"


def runs(
  tasks: Sequence[str],
  mixers: Sequence[str],
  seeds: Sequence[int],
  text: pathlib.Path | None = None,
) -> list[Run]:
  """Returns the trainings of mixers on tasks.

  Args:
    tasks: keys of `TASKS`.
    mixers: keys of `ATTENTION`; a task has those it compares.
    seeds: of each.
    text: what language is modelled of.
  """
  return [
    Run(
      {"task": task, "mixer": mixer},
      seed,
      command(task, mixer, seed, text if task == "language" else None),
      functools.partial(_config, task, mixer, seed, text),
      f"{task}/{mixer},seed={seed}",
    )
    for seed, mixer, task in itertools.product(seeds, mixers, tasks)
    if mixer in TASKS[task].mixers
  ]


def _config(
  task: str, mixer: str, seed: int, text: pathlib.Path | None
) -> dict[str, Any]:
  config = TASKS[task].get_config(_variant(task, mixer, seed)).to_dict()
  if task == "language":
    config["data"]["path"] = str(text)
  return config


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--text", type=pathlib.Path)
  parser.add_argument("--json", type=pathlib.Path, default=RESULTS)
  parser.add_argument("--tasks", nargs="*", default=list(TASKS))
  parser.add_argument("--mixers", nargs="*", default=list(_ALL))
  parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
  asked = parser.parse_args()
  if "language" in asked.tasks and asked.text is None:
    parser.error("the task language needs --text=FILE")
  found: dict[str, Any] = {"models": [], "runs": []}
  if asked.json.exists():
    found = json.loads(asked.json.read_text())
  train(
    runs(asked.tasks, asked.mixers, asked.seeds, asked.text),
    *(asked.workdir, found),
  )
  everything = [
    run for task in TASKS for run in runs([task], list(ATTENTION), SEEDS)
  ]
  collect(everything, asked.workdir, found)
  asked.json.write_text(json.dumps(found, indent=1) + "\n")
  print(f"{asked.json}: {len(found['runs'])} runs")


if __name__ == "__main__":
  main()
