"""What a small transformer reaches whose layers have a structure.

  python -m benchmarks.low_rank_quality --workdir=runs/low_rank
  python -m benchmarks.low_rank_quality --plot=docs/low_rank_quality.png

The first trains `configs/low_rank/mnist1d.py` with every structure and share of
parameters from several seeds, and adds what the run folders tell to
`results/low_rank_quality_cpu.json`; what is there is not trained again. The
second prints the table of it, and draws it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.runs import Run, collect, train
from benchmarks.sequence_tables import of, spread
from configs.low_rank import mnist1d
from effarch.architectures.low_rank import STRUCTURES
from effarch.config import build
from effarch.strategies.frontier import non_dominated

RESULTS = pathlib.Path("results/low_rank_quality_cpu.json")
SEEDS = (0, 1, 2)
RATIOS = (0.5, 0.25, 0.125)
DENSE = "dense"


def runs(
  names: Sequence[str], seeds: Sequence[int], more: str = ""
) -> list[Run]:
  """Returns the trainings of structures that there are.

  Some have more numbers than the smallest shares of so small layers.

  Args:
    names: `DENSE`, or keys of `STRUCTURES`.
    seeds: of each.
    more: of the config's variant.
  """
  found = []
  for seed in seeds:
    for name in names:
      for ratio in _shares(name):
        variant = f"{name}{more},ratio={ratio},seed={seed}"
        found.append(
          Run(
            {"structure": name, "ratio": ratio},
            seed,
            "python -m experiments.train "
            f"--config=configs/low_rank/mnist1d.py:{variant}",
            functools.partial(_config, variant),
            f"{name},ratio={ratio},seed={seed}",
          )
        )
  return found


def _shares(name: str) -> Sequence[float]:
  if name == DENSE:
    return (1.0,)
  found = []
  for ratio in RATIOS:
    with contextlib.suppress(ValueError):
      structure = mnist1d.structure_config(name, ratio)
      made = build(STRUCTURES, structure, "config.techniques.structure")
      made.fitted(mnist1d.FEATURES, mnist1d.FEATURES)
      found.append(ratio)
  return found


def _config(variant: str) -> dict[str, Any]:
  return mnist1d.get_config(variant).to_dict()


def points(found: dict[str, Any]) -> list[dict[str, Any]]:
  """Returns each model's cost and mean accuracy, and which none dominates."""
  made = []
  for model in found["models"]:
    named = {name: model[name] for name in ("structure", "ratio")}
    percent = [100 * run["test/accuracy"] for run in of(found["runs"], **named)]
    made.append({**model, "percent": percent})
  front = non_dominated(
    np.array([[np.mean(p["percent"]), -p["params"]] for p in made])
  )
  return [
    {**point, "frontier": bool(best)}
    for point, best in zip(made, front, strict=True)
  ]


def table(found: dict[str, Any]) -> str:
  """Returns accuracies by structure and share, in Markdown."""
  made = points(found)
  heads = " | ".join(f"{ratio:g} of the parameters" for ratio in RATIOS)
  lines = [f"| structure | {heads} |", f"| --- |{' ---: |' * len(RATIOS)}"]
  for name in dict.fromkeys(point["structure"] for point in made):
    cells = []
    for ratio in (1.0,) if name == DENSE else RATIOS:
      for point in of(made, structure=name, ratio=ratio) or [None]:
        cells.append("–" if point is None else _cell(point))
    if name == DENSE:
      lines.append(f"| dense | {cells[0]} {'| ' * (len(RATIOS) - 1)}|")
    else:
      lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def _cell(point: dict[str, Any]) -> str:
  told = spread(point["percent"], 1)
  told = f"**{told}**" if point["frontier"] else told
  return f"{told} ({point['params'] / 1e3:.0f} k, {point['macs'] / 1e6:.1f} M)"


def plot(found: dict[str, Any], file: pathlib.Path) -> None:
  """Draws accuracy against parameters, with the frontier as a line."""
  from matplotlib import figure

  made = points(found)
  canvas = figure.Figure(figsize=(9, 6), layout="constrained")
  axes = canvas.subplots()
  markers = "os^vD<>PXphd*8Hs+x"
  for name, marker in zip(
    dict.fromkeys(point["structure"] for point in made), markers, strict=False
  ):
    mine = of(made, structure=name)
    axes.errorbar(
      [point["params"] for point in mine],
      [np.mean(point["percent"]) for point in mine],
      [np.std(point["percent"], ddof=1) for point in mine],
      fmt=marker,
      capsize=2,
      alpha=0.8,
      label=name,
    )
  front = sorted(of(made, frontier=True), key=lambda point: point["params"])
  axes.plot(
    [point["params"] for point in front],
    [np.mean(point["percent"]) for point in front],
    color="black",
    linewidth=1,
    label="frontier",
  )
  axes.set(xscale="log", xlabel="trained parameters", ylabel="test accuracy, %")
  axes.legend(fontsize=8, ncols=2)
  canvas.savefig(file, dpi=120)


def main() -> None:
  told = (__doc__ or "").split("\n")[0]
  parser = argparse.ArgumentParser(description=told)
  parser.add_argument("--workdir", type=pathlib.Path)
  parser.add_argument("--plot", type=pathlib.Path)
  parser.add_argument("--json", type=pathlib.Path, default=RESULTS)
  names = [DENSE, *STRUCTURES]
  parser.add_argument("--structures", nargs="*", default=names)
  parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
  parser.add_argument("--variant", default="", help="further, as ,epochs=2")
  asked = parser.parse_args()
  found: dict[str, Any] = {"models": [], "runs": []}
  if asked.json.exists():
    found = json.loads(asked.json.read_text())
  if asked.workdir:
    chosen = runs(asked.structures, asked.seeds, asked.variant)
    train(chosen, asked.workdir, found)
    collect(runs(names, SEEDS, asked.variant), asked.workdir, found)
    asked.json.write_text(json.dumps(found, indent=1) + "\n")
  print(table(found))
  if asked.plot:
    plot(found, asked.plot)


if __name__ == "__main__":
  main()
