"""What blocks cost beside the 3x3 convolution that they stand for.

  python -m benchmarks.blocks --json=results/blocks_cpu.json
  python -m benchmarks.blocks --table=results/blocks_cpu.json

The first measures, the second prints the table of `docs/convolution.md`. All
keep channels and places. Forward is in evaluation mode, folded; a training step
is forward and backward for all parameters and the input; both in float32, those
of one shape timed in turns. LiteRT runs the folded block's file, one image, one
thread. `conv_norm` is the convolution that others are compared with.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.architectures.convolution import CONVOLUTIONS, fold
from effarch.infrastructure.cost import latencies, measure
from effarch.infrastructure.export import convert
from effarch.infrastructure.runtime import LiteRTModel
from effarch.infrastructure.training import provenance

PLAIN = "conv_norm"
# Those whose papers have larger ones.
KERNELS = {"conv_next": (7, 7), "large_kernel": (31, 31)}
# Sizes and channels of a residual network's second and fourth stage.
SHAPES = ((56, 64), (14, 256))
BATCH, CALLS, ROUNDS = 16, 20, 5
Row = dict[str, Any]
Call = Callable[[], Any]


def block(name: str, channels: int) -> nnx.Module:
  """Returns a block that keeps its channels."""
  kernel_size = KERNELS.get(name, (3, 3))
  return CONVOLUTIONS[name](channels, channels, kernel_size, rngs=nnx.Rngs(0))


def forward_call(layer: nnx.Module, x: jax.Array) -> Call:
  """Returns the compiled inference of a block as it is."""
  graphdef, state = nnx.split(layer)
  compiled = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
  return lambda: compiled(state, x)


def step_call(layer: nnx.Module, x: jax.Array) -> Call:
  """Returns the compiled gradient of all parameters and of the input."""
  layer.train()
  graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

  @jax.jit
  def step(params, rest, x):
    def squares(params, x):
      model = nnx.merge(graphdef, params, rest, copy=True)
      return jnp.square(model(x)).mean(), nnx.state(model, nnx.BatchStat)

    return jax.value_and_grad(squares, (0, 1), has_aux=True)(params, x)

  return lambda: step(params, rest, x)


def rows(
  names: Sequence[str], size: int, channels: int, batch: int = BATCH
) -> list[Row]:
  """Returns each block's cost and times, `PLAIN` among them or not.

  Args:
    names: keys of `CONVOLUTIONS`.
    size: of the square images.
    channels: before and after.
    batch: images a call; LiteRT gets one.
  """
  shape = size, size, channels
  x = jax.random.normal(jax.random.key(0), (batch, *shape))
  one = np.asarray(x[:1])
  calls: dict[str, list[Call]] = {"forward": [], "step": [], "litert": []}
  made = []
  for name in names:
    layer = block(name, channels)
    layer.eval()
    folded = fold(layer)
    cost = measure(folded, x[:1])
    calls["forward"].append(forward_call(folded, x))
    calls["step"].append(step_call(layer, x))
    file = convert(folded, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    runtime = LiteRTModel(file)
    calls["litert"].append(lambda runtime=runtime: runtime(one))
    made.append(
      {
        "block": name,
        "size": size,
        "channels": channels,
        "batch": batch,
        "params": cost.params,
        "macs": cost.macs,
        "file_bytes": len(file),
      }
    )
  for kind, group in calls.items():
    found = latencies(group, calls=CALLS, rounds=ROUNDS)
    for row, times in zip(made, found, strict=True):
      row[f"{kind}_us"] = times.p50_us
      row[f"{kind}_low_us"], row[f"{kind}_high_us"] = (
        times.low_us,
        times.high_us,
      )
  return made


def table(found: Sequence[Row]) -> str:
  """Returns blocks of one shape in Markdown, as parts of the convolution's.

  Args:
    found: what `rows` returned, with `PLAIN` among them.
  """
  (plain,) = (row for row in found if row["block"] == PLAIN)
  lines = [
    "| block | parameters | MACs | forward | training step | LiteRT |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
  ]
  for row in sorted(found, key=lambda row: row["macs"]):
    cells = [
      f"{row[name] / 1e6:.2f} M ({row[name] / plain[name]:.2f}x)"
      for name in ("params", "macs")
    ]
    cells += [
      f"{row[name] / 1e3:.2f} ms ({row[name] / plain[name]:.2f}x)"
      for name in ("forward_us", "step_us", "litert_us")
    ]
    lines.append(f"| {row['block']} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--table", type=pathlib.Path)
  parser.add_argument("--blocks", nargs="*", default=list(CONVOLUTIONS))
  asked = parser.parse_args()
  if asked.table:
    made = json.loads(asked.table.read_text())
  else:
    words = ["python", "-m", "benchmarks.blocks", *sys.argv[1:]]
    made = {"provenance": provenance(shlex.join(words)), "rows": []}
    for size, channels in SHAPES:
      made["rows"] += rows(asked.blocks, size, channels)
      jax.clear_caches()
  for size, channels in SHAPES:
    chosen = [row for row in made["rows"] if row["size"] == size]
    print(f"\n{chosen[0]['batch']} images of {size} x {size} x {channels}\n")
    print(table(chosen))
  if asked.json:
    asked.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
  main()
