"""The three contractions of the survey CNN's convolutions, by formulation.

  pip install torch
  python -m benchmarks.convolutions [--json=FILE]

Batch 128, float32, 3x3, `SAME`: output, gradient of the input, gradient of the
kernel, each alone. `XLA` is its own convolution and that one's gradients.
`taps` are matrix products of the nine shifted inputs; `flipped` is the input's
gradient as XLA's forward convolution with the kernel flipped. All are timed in
turns within one process. Without PyTorch, channels last, its column is left
out.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.table import Table

from effarch.architectures.convolution import conv
from effarch.infrastructure.cost import latencies
from effarch.infrastructure.training import provenance

try:
  import torch
except ImportError:
  torch = None

BATCH, CALLS, ROUNDS = 128, 12, 4
# Size, channels before and after, at width 1 and at width 0.05.
LAYERS = (
  *((32, 3, 32), (32, 32, 32), (16, 32, 64)),
  *((16, 64, 64), (8, 64, 128), (8, 128, 128)),
  *((16, 32, 3), (16, 3, 3), (8, 3, 6), (8, 6, 6)),
)
Call = Callable[[], Any]


def xla(x, kernel):
  return lax.conv_general_dilated(
    *(x, kernel, (1, 1), "SAME"), dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def shifted(x):
  """Returns what each of the nine taps sees."""
  size = x.shape[1]
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return [x[:, i : i + size, j : j + size] for i in range(3) for j in range(3)]


def taps_output(x, kernel):
  flat = kernel.reshape(9, *kernel.shape[2:])
  return sum(seen @ tap for seen, tap in zip(shifted(x), flat, strict=True))


def taps_kernel(x, gradient):
  products = [
    jnp.einsum("bhwc,bhwf->cf", seen, gradient) for seen in shifted(x)
  ]
  return jnp.stack(products).reshape(3, 3, x.shape[-1], -1)


def flipped(gradient, kernel):
  return xla(gradient, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def gradients(function):
  """Returns the gradients of input and of kernel, each by itself."""
  return (
    lambda x, k, g: jax.vjp(lambda x: function(x, k), x)[1](g)[0],
    lambda x, k, g: jax.vjp(lambda k: function(x, k), k)[1](g)[0],
  )


def formulations() -> dict[str, dict[str, Callable]]:
  """Returns functions of input, kernel and the output's gradient."""
  own, theirs = gradients(conv), gradients(xla)
  return {
    "output": {
      "effarch": lambda x, k, g: conv(x, k),
      "XLA": lambda x, k, g: xla(x, k),
      "taps": lambda x, k, g: taps_output(x, k),
    },
    "input's gradient": {
      "effarch": own[0],
      "XLA": theirs[0],
      "flipped": lambda x, k, g: flipped(g, k),
    },
    "kernel's gradient": {
      "effarch": own[1],
      "XLA": theirs[1],
      "taps": lambda x, k, g: taps_kernel(x, g),
    },
  }


def torch_calls(arrays: list[np.ndarray]) -> dict[str, Call]:
  """Returns PyTorch's three contractions, channels last."""
  x, gradient = (torch.tensor(arrays[i]).permute(0, 3, 1, 2) for i in (0, 2))
  kernel = torch.tensor(arrays[1]).permute(3, 2, 0, 1)
  kernel = kernel.to(memory_format=torch.channels_last)

  def backward(wanted):
    return torch.ops.aten.convolution_backward(
      *(gradient, x, kernel, None, [1, 1], [1, 1], [1, 1]),
      *(False, [0, 0], 1, wanted),
    )

  return {
    "output": lambda: torch.nn.functional.conv2d(x, kernel, padding=1),
    "input's gradient": lambda: backward([True, False, False]),
    "kernel's gradient": lambda: backward([False, True, False]),
  }


def layer_rows(size: int, start: int, end: int) -> list[dict[str, Any]]:
  """Returns the milliseconds of each contraction by each formulation.

  Raises:
    AssertionError: two of them differ.
  """
  generator = np.random.default_rng(0)
  shapes = (BATCH, size, size, start), (3, 3, start, end)
  shapes = *shapes, (BATCH, size, size, end)
  arrays = [generator.normal(size=s).astype(np.float32) for s in shapes]
  inputs = [jnp.asarray(array) for array in arrays]
  rivals = torch_calls(arrays) if torch is not None else {}
  rows = []
  for contraction, made in formulations().items():
    compiled = {name: jax.jit(f) for name, f in made.items()}
    wanted = np.asarray(compiled["XLA"](*inputs))
    for name, call in compiled.items():
      error = np.abs(np.asarray(call(*inputs)) - wanted).max()
      assert error < 1e-4 * np.abs(wanted).max(), f"{name}: off by {error}"
    calls = {
      name: lambda call=call: call(*inputs) for name, call in compiled.items()
    }
    if rivals:
      calls["PyTorch"] = rivals[contraction]
    found = latencies(list(calls.values()), calls=CALLS, rounds=ROUNDS)
    rows.append(
      {
        "size": size,
        "channels": [start, end],
        "contraction": contraction,
        "milliseconds": {
          name: times.p50_us / 1e3
          for name, times in zip(calls, found, strict=True)
        },
      }
    )
  return rows


def table(rows: list[dict[str, Any]]) -> Table:
  """Returns milliseconds, and how many times as fast effarch is."""
  found = Table(title=f"batch {BATCH}, 3x3, float32: ms, and effarch's speed")
  names = ("effarch", "XLA", "taps", "flipped", "PyTorch")
  for title in ("contraction", "size, channels", *names):
    found.add_column(title, justify="right")
  for row in sorted(rows, key=lambda row: row["contraction"]):
    times = row["milliseconds"]
    cells = [
      f"{times[n]:.2f} ({times[n] / times['effarch']:.2f}x)"
      if n in times
      else ""
      for n in names
    ]
    shape = f"{row['size']}, {row['channels'][0]} to {row['channels'][1]}"
    found.add_row(row["contraction"], shape, *cells)
  return found


def summary(rows: list[dict[str, Any]]) -> str:
  """Returns times of all layers beside effarch's, in Markdown.

  Args:
    rows: what `layer_rows` returned.
  """
  names = dict.fromkeys(name for row in rows for name in row["milliseconds"])
  others = [name for name in names if name != "effarch"]
  lines = [f"| contraction | {' | '.join(others)} |"]
  lines.append(f"| --- |{' ---: |' * len(others)}")
  for contraction in dict.fromkeys(row["contraction"] for row in rows):
    cells = []
    for name in others:
      ratios = [
        row["milliseconds"][name] / row["milliseconds"]["effarch"]
        for row in rows
        if row["contraction"] == contraction and name in row["milliseconds"]
      ]
      if ratios:
        mean = np.exp(np.mean(np.log(ratios)))
        cells.append(f"{mean:.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")
      else:
        cells.append("–")
    lines.append(f"| {contraction} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  asked = parser.parse_args()
  words = ["python", "-m", "benchmarks.convolutions", *sys.argv[1:]]
  record = provenance(shlex.join(words))
  if torch is not None:
    record["versions"]["torch"] = torch.__version__
    torch.set_grad_enabled(False)
  rows = [row for layer in LAYERS for row in layer_rows(*layer)]
  Console(width=130).print(table(rows))
  print(summary(rows))
  if asked.json:
    made = {"provenance": record, "rows": rows}
    asked.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
  main()
