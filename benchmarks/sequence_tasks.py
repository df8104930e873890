"""What token mixers reach on sequence tasks, at one budget.

  python -m benchmarks.sequence_tasks --workdir=runs/sequence_tasks --text=FILE

Trains each mixer on each task from several seeds by the tasks' own configs,
and adds what the run folders tell to `results/sequence_tasks_cpu.json`; what is
there by the same command is not trained again. Stopped, it goes on; several of
these share the work, as a folder that one trains in is passed over by the
others.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from configs.lra import listops
from configs.sequence import language, mnist1d, recall
from effarch.architectures.attention import ATTENTION
from effarch.automation.trial import Trial
from effarch.errors import BusyError
from effarch.infrastructure.training import RunFolder

RESULTS = pathlib.Path("results/sequence_tasks_cpu.json")
SEEDS = (0, 1, 2)
_KEPT = ("epoch", "test/accuracy", "test/loss", "train_seconds")


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


def train(
  task: str,
  mixer: str,
  seed: int,
  workdir: pathlib.Path,
  text: pathlib.Path | None = None,
) -> None:
  """Trains, or goes on, unless another process does.

  Args:
    task: a key of `TASKS`.
    mixer: a key of `ATTENTION`.
    seed: of the parameters and of the order of examples.
    workdir: of all run folders.
    text: what language is modelled of.
  """
  config = TASKS[task].get_config(_variant(task, mixer, seed)).to_dict()
  if text is not None:
    config["data"]["path"] = str(text)
  folder = RunFolder.open(
    workdir / task / f"{mixer},seed={seed}",
    *(config, command(task, mixer, seed, text)),
  )
  with contextlib.suppress(BusyError):
    Trial(config).train(folder)


def collect(workdir: pathlib.Path, found: dict[str, Any]) -> None:
  """Adds what all finished runs tell; equal parts of them once.

  Args:
    workdir: of all run folders.
    found: `models` and `runs`, in the order of the tasks.
  """
  known = _commands(found)
  for task, mixer, seed in itertools.product(TASKS, ATTENTION, SEEDS):
    folder = RunFolder(workdir / task / f"{mixer},seed={seed}")
    if not folder.has("result.json"):
      continue
    result, config = folder.read("result.json"), folder.read("config.json")
    *_, start = folder.read_lines("provenance.jsonl")
    if start["command"] in known:
      continue
    named = {"task": task, "mixer": mixer}
    model = {
      **named,
      "params": result["params"],
      "macs": result["macs"],
      "config": config["model"],
    }
    if model not in found["models"]:
      found["models"].append(model)
    found["runs"].append(
      {
        **named,
        "seed": seed,
        **{name: result[name] for name in _KEPT},
        "validation": [
          line[f"validation/{config['training']['best']}"]
          for line in folder.read_lines("metrics.jsonl")
        ],
        "provenance": start,
      }
    )
  for rows in found.values():
    rows.sort(key=_place)


def _commands(found: dict[str, Any]) -> set[str]:
  return {run["provenance"]["command"] for run in found["runs"]}


def _place(row: dict[str, Any]) -> tuple[int, ...]:
  tasks, mixers = list(TASKS), list(ATTENTION)
  place = tasks.index(row["task"]), mixers.index(row["mixer"])
  return *place, row.get("seed", 0)


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
  known = _commands(found)
  for seed, mixer, task in itertools.product(
    asked.seeds, asked.mixers, asked.tasks
  ):
    text = asked.text if task == "language" else None
    if mixer not in TASKS[task].mixers:
      continue
    if command(task, mixer, seed, text) not in known:
      train(task, mixer, seed, asked.workdir, text)
      jax.clear_caches()  # A hundred models' programs fill the memory.
  collect(asked.workdir, found)
  asked.json.write_text(json.dumps(found, indent=1) + "\n")
  print(f"{asked.json}: {len(found['runs'])} runs")


if __name__ == "__main__":
  main()
