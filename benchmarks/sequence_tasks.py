"""What token mixers reach on sequence tasks, at one budget.

  python -m benchmarks.sequence_tasks --workdir=runs/sequence_tasks --text=FILE

Trains each mixer on each task from several seeds by the tasks' own configs,
and writes what the run folders tell to `results/sequence_tasks_cpu.json`.
Stopped, it goes on; several of these share the work, as a folder that one
trains in is passed over by the others.
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
    *("configs/sequence/recall.py", recall.get_config, ""),
    tuple(name for name in _ALL if ATTENTION[name].supports.causal),
  ),
  "listops_short": Task(
    *("configs/lra/listops.py", listops.get_config, ",short", _ALL)
  ),
  "mnist1d": Task(
    *("configs/sequence/mnist1d.py", mnist1d.get_config, "", _ALL)
  ),
  "language": Task(
    *("configs/sequence/language.py", language.get_config),
    ",features=64,hidden=128,epochs=5",
    ("full", "sliding_window", "linear", "gated_linear", "delta", "mamba2"),
  ),
}


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
  asked = TASKS[task]
  variant = f"{mixer}{asked.variant},seed={seed}"
  config = asked.get_config(variant).to_dict()
  command = f"python -m experiments.train --config={asked.file}:{variant}"
  if text is not None:
    config["data"]["path"] = str(text)
    command += f" --config.data.path={text.name}"
  folder = RunFolder.open(
    workdir / task / f"{mixer},seed={seed}", config, command
  )
  with contextlib.suppress(BusyError):
    Trial(config).train(folder)


def collect(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns what all finished runs tell; equal parts of them once."""
  found: dict[str, Any] = {"models": [], "runs": []}
  for task, mixer, seed in itertools.product(TASKS, ATTENTION, SEEDS):
    folder = RunFolder(workdir / task / f"{mixer},seed={seed}")
    if not folder.has("result.json"):
      continue
    result, config = folder.read("result.json"), folder.read("config.json")
    named = {"task": task, "mixer": mixer}
    model = {
      **named,
      "params": result["params"],
      "macs": result["macs"],
      "config": config["model"],
    }
    if model not in found["models"]:
      found["models"].append(model)
    *_, start = folder.read_lines("provenance.jsonl")
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
  return found


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
  for seed, mixer, task in itertools.product(
    asked.seeds, asked.mixers, asked.tasks
  ):
    if mixer in TASKS[task].mixers:
      text = asked.text if task == "language" else None
      train(task, mixer, seed, asked.workdir, text)
      jax.clear_caches()  # A hundred models' programs fill the memory.
  found = collect(asked.workdir)
  asked.json.write_text(json.dumps(found, indent=1) + "\n")
  print(f"{asked.json}: {len(found['runs'])} runs")


if __name__ == "__main__":
  main()
