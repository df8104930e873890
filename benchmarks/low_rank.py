"""What structured linear layers cost beside the dense one.

  python -m benchmarks.low_rank --json=results/low_rank_cpu.json
  python -m benchmarks.low_rank --table=results/low_rank_cpu.json

The first measures, the second prints the tables of `docs/low_rank.md`. Layers
are square, with bias, in float32. A step is the gradient of all parameters and
of the input. Those of one size are timed in turns. Memory is what a step holds
at once besides its arguments and results, as the compiler lays it out.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from effarch.architectures.low_rank import (
  ACDC,
  BlockDiagonal,
  Butterfly,
  Circulant,
  DoRA,
  Fastfood,
  GroupedShuffle,
  Hypercomplex,
  Kronecker,
  LinearStructure,
  LoRA,
  LowRank,
  LowRankDiagonal,
  LowRankSparse,
  Monarch,
  StructuredLinear,
  TensorTrain,
  Toeplitz,
)
from effarch.infrastructure.cost import latencies, measure
from effarch.infrastructure.training import provenance

DENSE = "dense"
# A quarter of the parameters, and, where that is not what the structure is for,
# as many as it is.
STRUCTURES: dict[str, LinearStructure] = {
  "low_rank": LowRank(params_ratio=0.25),
  "low_rank_sparse": LowRankSparse(params_ratio=0.25),
  "low_rank_diagonal": LowRankDiagonal(params_ratio=0.25),
  "block_diagonal": BlockDiagonal(params_ratio=0.25),
  "grouped_shuffle": GroupedShuffle(params_ratio=0.25),
  "monarch": Monarch(params_ratio=0.25),
  "butterfly": Butterfly(params_ratio=0.25),
  "kronecker": Kronecker(params_ratio=0.25),
  "kronecker, rank 4": Kronecker(rank=4),
  "hypercomplex": Hypercomplex(params_ratio=0.25),
  "tensor_train": TensorTrain(params_ratio=0.25),
  "tensor_train, rank 8": TensorTrain(rank=8),
  "circulant": Circulant(params_ratio=0.25),
  "circulant, blocks of 128": Circulant(block_size=128),
  "toeplitz": Toeplitz(params_ratio=0.25),
  "toeplitz, blocks of 128": Toeplitz(block_size=128),
  "acdc, 2 stages": ACDC(stages=2),
  "fastfood, 2 stages": Fastfood(stages=2),
  "lora, rank 8": LoRA(rank=8),
  "dora, rank 8": DoRA(rank=8),
}
BATCH, ROUNDS = 512, 5
# Calls a round.
CALLS = {256: 50, 512: 20, 1024: 10, 2048: 3, 4096: 1, 8192: 1}
Row = dict[str, Any]
Call = Callable[[], Any]


def layer(name: str, size: int) -> nnx.Module:
  """Returns a square layer.

  Args:
    name: `DENSE`, or a key of `STRUCTURES`.
    size: features in and out.
  """
  if name == DENSE:
    return nnx.Linear(size, size, rngs=nnx.Rngs(0))
  return StructuredLinear(size, size, STRUCTURES[name], rngs=nnx.Rngs(0))


def programs(module: nnx.Module, x: jax.Array) -> tuple[Call, Call, int]:
  """Returns inference, a step, and the bytes that the step holds.

  Args:
    module: the layer.
    x: its input.
  """
  graphdef, params, rest = nnx.split(module, nnx.Param, ...)

  def squares(params, x, rest):
    return jnp.square(nnx.merge(graphdef, params, rest)(x)).mean()

  forward = jax.jit(lambda p, x, rest: nnx.merge(graphdef, p, rest)(x))
  step = jax.jit(jax.grad(squares, (0, 1)))
  compiled = step.lower(params, x, rest).compile()
  held = compiled.memory_analysis()
  assert held is not None
  return (
    lambda: forward(params, x, rest),
    lambda: compiled(params, x, rest),
    held.temp_size_in_bytes,
  )


def rows(
  size: int,
  names: Sequence[str],
  *,
  batch: int,
  calls: int = 1,
) -> list[Row]:
  """Returns each layer's cost and times.

  Args:
    size: features in and out.
    names: `DENSE` and keys of `STRUCTURES`.
    batch: inputs a call.
    calls: of each a round.
  """
  x = jax.random.normal(jax.random.key(0), (batch, size))
  forwards, steps, made = [], [], []
  for name in names:
    module = layer(name, size)
    cost = measure(module, x)
    forward, step, held = programs(module, x)
    forwards.append(forward)
    steps.append(step)
    made.append(
      {
        "structure": name,
        "size": size,
        "batch": batch,
        "params": cost.params,
        "macs": cost.macs,
        "step_bytes": held,
      }
    )
  for kind, group in (("forward", forwards), ("step", steps)):
    found = latencies(group, calls=calls, rounds=ROUNDS)
    for row, times in zip(made, found, strict=True):
      row[f"{kind}_us"] = times.p50_us
      row[f"{kind}_low_us"], row[f"{kind}_high_us"] = (
        times.low_us,
        times.high_us,
      )
  return made


def speeds(found: Sequence[Row], kind: str) -> str:
  """Returns how many times as fast as the dense layer each is, in Markdown.

  Args:
    found: what `rows` returned for some sizes.
    kind: `forward` or `step`.
  """
  sizes = sorted({row["size"] for row in found})
  by_place = {(row["structure"], row["size"]): row for row in found}
  heads = [f"{size:,}" for size in sizes]
  lines = [
    f"| structure | MACs at {heads[-1]} | {' | '.join(heads)} | faster from |",
    f"| --- | ---: | {'---: | ' * len(sizes)}---: |",
  ]
  for name in dict.fromkeys(row["structure"] for row in found):
    if name == DENSE:
      continue
    ratios = {
      size: by_place[DENSE, size][f"{kind}_us"]
      / by_place[name, size][f"{kind}_us"]
      for size in sizes
    }
    last = sizes[-1]
    macs = by_place[name, last]["macs"] / by_place[DENSE, last]["macs"]
    cells = [f"{ratio:.2f}x" for ratio in ratios.values()]
    cells.append(crossover(ratios))
    lines.append(f"| {name} | {macs:.2f}x | {' | '.join(cells)} |")
  return "\n".join(lines)


def crossover(ratios: Mapping[int, float]) -> str:
  """Returns the size from which on all are faster than the dense layer.

  Args:
    ratios: of speeds, by size, growing.
  """
  found = None
  for size, ratio in ratios.items():
    if ratio <= 1:
      found = None
    elif found is None:
      found = size
  return "never" if found is None else f"{found:,}"


def costs(found: Sequence[Row], size: int) -> str:
  """Returns parameters, MACs, time and memory of one size, in Markdown.

  Where MACs fall and time does not, the last column says so.

  Args:
    found: what `rows` returned.
    size: features in and out.
  """
  chosen = [row for row in found if row["size"] == size]
  (dense,) = (row for row in chosen if row["structure"] == DENSE)
  lines = [
    "| structure | parameters | MACs | forward | step | memory of a step | |",
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
  ]
  for row in chosen:
    forward, step = (row[f"{kind}_us"] for kind in ("forward", "step"))
    ratios = {
      "forward": forward / dense["forward_us"],
      "step": step / dense["step_us"],
    }
    slower = [kind for kind, ratio in ratios.items() if ratio >= 1]
    fewer = row["macs"] < dense["macs"]
    told = f"fewer MACs, no faster {' or '.join(slower)}"
    cells = [
      f"{row['params'] / dense['params']:.4f}x",
      f"{row['macs'] / dense['macs']:.3f}x",
      f"{forward / 1e3:.1f} ms ({ratios['forward']:.2f}x)",
      f"{step / 1e3:.1f} ms ({ratios['step']:.2f}x)",
      f"{row['step_bytes'] / 2**20:.0f} MB",
      told if fewer and slower else "",
    ]
    lines.append(f"| {row['structure']} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--table", type=pathlib.Path)
  parser.add_argument("--sizes", nargs="*", type=int, default=list(CALLS))
  parser.add_argument("--structures", nargs="*", default=list(STRUCTURES))
  parser.add_argument("--batch", type=int, default=BATCH)
  asked = parser.parse_args()
  if asked.table:
    made = json.loads(asked.table.read_text())
  else:
    words = ["python", "-m", "benchmarks.low_rank", *sys.argv[1:]]
    made = {"provenance": provenance(shlex.join(words)), "rows": []}
    for size in asked.sizes:
      names = DENSE, *asked.structures
      calls = CALLS.get(size, 1)
      made["rows"] += rows(size, names, batch=asked.batch, calls=calls)
      jax.clear_caches()
  for kind in ("forward", "step"):
    print(f"\n{kind}\n\n{speeds(made['rows'], kind)}")
  for size in sorted({row["size"] for row in made["rows"]}):
    print(f"\n{size}\n\n{costs(made['rows'], size)}")
  if asked.json:
    asked.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
  main()
