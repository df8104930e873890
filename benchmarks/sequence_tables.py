"""Tables of what the benchmarks of sequences found.

  python -m benchmarks.sequence_tables

prints them, from `results/sequence_tasks_cpu.json` and
`results/generation_cpu.json`, as `docs/sequences.md` has them.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.sequence_tasks import RESULTS, TASKS

GENERATION = pathlib.Path("results/generation_cpu.json")
Row = dict[str, Any]
_CLASSIFIED = {
  "recall": "recall",
  "listops_short": "ListOps-short",
  "mnist1d": "MNIST-1D",
}


def spread(values: Iterable[float], digits: int) -> str:
  """Returns mean and standard deviation, or one value by itself."""
  values = list(values)
  mean = f"{np.mean(values):.{digits}f}"
  if len(values) == 1:
    return f"{mean} (one seed)"
  return f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def of(rows: list[Row], **named: Any) -> list[Row]:
  """Returns the rows with these entries."""
  return [row for row in rows if all(row[key] == v for key, v in named.items())]


def accuracies(found: Row) -> str:
  """Returns the table of test accuracies, with each model's cost."""
  lines = [
    "| mixer | " + " | ".join(_CLASSIFIED.values()) + " | parameters, MACs |",
    "| --- | ---: | ---: | ---: | --- |",
  ]
  mixers = dict.fromkeys(m for task in _CLASSIFIED for m in TASKS[task].mixers)
  for mixer in mixers:
    cells, costs = [], []
    for task in _CLASSIFIED:
      runs = of(found["runs"], task=task, mixer=mixer)
      percent = [100 * run["test/accuracy"] for run in runs]
      cells.append(spread(percent, 1) if runs else "–")
      for model in of(found["models"], task=task, mixer=mixer):
        costs.append(f"{model['params'] / 1e3:.0f} k, {_mega(model['macs'])}")
    if costs:
      joined = "; ".join(costs)
      lines.append(f"| {mixer} | " + " | ".join(cells) + f" | {joined} |")
  return "\n".join(lines)


def language(found: Row, generated: Row) -> str:
  """Returns the table of language models."""
  lines = [
    "| mixer | bits a character | parameters | MACs a character "
    "| tokens/s, batch 1 | and of the cache's |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
  ]
  speeds = {
    row["mixer"]: row["tokens_per_second"]
    for row in of(generated["rows"], length=256, batch_size=1)
  }
  for mixer in TASKS["language"].mixers:
    runs = of(found["runs"], task="language", mixer=mixer)
    for model in of(found["models"], task="language", mixer=mixer):
      bits = spread((run["test/loss"] / math.log(2) for run in runs), 3)
      lines.append(
        f"| {mixer} | {bits} | {model['params']:,} "
        f"| {_mega(model['macs'] / 256)} | {speeds[mixer]:,.0f} "
        f"| {speeds[mixer] / speeds['full']:.2f}x |"
      )
  return "\n".join(lines)


def generation(generated: Row) -> str:
  """Returns the table of generating, beside exact attention's cache."""
  rows = generated["rows"]
  forms = list(
    dict.fromkeys((row["batch_size"], row["length"]) for row in rows)
  )
  forms.sort()
  titles = [f"{length:,} x {batch}" for batch, length in forms]
  lines = [
    "| mixer | " + " | ".join(titles) + " | state, KB a sequence |",
    "| --- |" + " ---: |" * (len(forms) + 1),
  ]
  for mixer in dict.fromkeys(row["mixer"] for row in rows):
    cells, kept = [], {}
    for batch, length in forms:
      own, full = (
        of(rows, mixer=m, length=length, batch_size=batch)[0]
        for m in (mixer, "full")
      )
      speed = own["tokens_per_second"]
      times = speed / full["tokens_per_second"]
      cells.append(f"{speed:,.0f} ({times:.2f}x)")
      kept[length] = own["state_bytes"] / batch / 1e3
    sizes = [f"{size:,.0f}" for size in dict.fromkeys(kept.values())]
    lines.append(
      f"| {mixer} | " + " | ".join(cells) + f" | {' to '.join(sizes)} |"
    )
  return "\n".join(lines)


def _mega(macs: float) -> str:
  return f"{macs / 1e6:.2f} M"


def main() -> None:
  found = json.loads(RESULTS.read_text())
  generated = json.loads(GENERATION.read_text())
  tables = accuracies(found), language(found, generated), generation(generated)
  print("\n\n".join(tables))


if __name__ == "__main__":
  main()
