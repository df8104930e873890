"""Depthwise convolution: effarch, XLA's grouped convolution, PyTorch.

  pip install torch
  python -m benchmarks.depthwise [--json=FILE]

The depthwise layers of MobileNetV2 and ConvNeXt-T for images of 224 x 224, at
batch 16, and four others; float32. Forward, and forward and backward: the
output, and the gradients of input and kernel for a given one of the output. The
three are timed in turns within one process, each waited for; ratios are of
turns side by side. PyTorch has its images channels last, as it is faster so,
and records nothing in its forward pass; without it its columns are left out.
What they return is compared with what the grouped convolution returns.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from effarch.architectures.convolution import depthwise_conv
from effarch.infrastructure.training import provenance

try:
  import torch
except ImportError:
  torch = None

_ROUNDS, _TURN_SECONDS = 9, 0.02
Call = Callable[[], list]


class Layer(NamedTuple):
  """A depthwise layer; `C` channels on a square of `size`."""

  name: str
  batch: int
  size: int
  channels: int
  kernel: int
  stride: int = 1


LAYERS = (
  Layer("32, 3x3", 64, 32, 64, 3),
  Layer("16, 3x3", 64, 16, 192, 3),
  Layer("56, 7x7", 16, 56, 96, 7),
  Layer("28, 5x5", 32, 28, 144, 5),
  *(
    Layer("MobileNetV2", 16, size, channels, 3, stride)
    for size, channels, stride in (
      (112, 32, 1),
      (112, 96, 2),
      (56, 144, 1),
      (56, 144, 2),
      (28, 192, 1),
      (28, 192, 2),
      (14, 384, 1),
      (14, 576, 1),
      (14, 576, 2),
      (7, 960, 1),
    )
  ),
  *(
    Layer("ConvNeXt-T", 16, size, channels, 7)
    for size, channels in ((56, 96), (28, 192), (14, 384), (7, 768))
  ),
)


def own_conv(x: jax.Array, kernel: jax.Array, layer: Layer) -> jax.Array:
  return depthwise_conv(
    x, kernel, strides=layer.stride, padding=layer.kernel // 2
  )


def grouped_conv(x: jax.Array, kernel: jax.Array, layer: Layer) -> jax.Array:
  margin = layer.kernel // 2
  return jax.lax.conv_general_dilated(
    *(x, kernel, (layer.stride,) * 2, ((margin, margin),) * 2),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=layer.channels,
  )


def jax_calls(
  function: Callable[..., jax.Array], layer: Layer, arrays: list[np.ndarray]
) -> list[Call]:
  """Returns the forward pass, and that with the backward one."""
  run = functools.partial(function, layer=layer)

  def both(x, kernel, gradient):
    out, back = jax.vjp(run, x, kernel)
    return out, *back(gradient)

  x, kernel, gradient = map(jnp.asarray, arrays)
  forward, backward = jax.jit(run), jax.jit(both)
  return [
    lambda: jax.block_until_ready([forward(x, kernel)]),
    lambda: jax.block_until_ready(backward(x, kernel, gradient)),
  ]


def torch_calls(layer: Layer, arrays: list[np.ndarray]) -> list[Call]:
  """Returns the same of PyTorch, channels last."""
  device = "cuda" if torch.cuda.is_available() else "cpu"
  wait = torch.cuda.synchronize if device == "cuda" else lambda: None
  x, gradient = (
    torch.tensor(array)
    .permute(0, 3, 1, 2)
    .to(device, memory_format=torch.channels_last)
    for array in (arrays[0], arrays[2])
  )
  kernel = torch.tensor(arrays[1]).permute(3, 2, 0, 1).contiguous().to(device)
  run = functools.partial(
    torch.nn.functional.conv2d,
    stride=layer.stride,
    padding=layer.kernel // 2,
    groups=layer.channels,
  )

  def forward():
    with torch.no_grad():
      out = run(x, kernel)
    wait()
    return [out]

  leaves = [array.detach().requires_grad_() for array in (x, kernel)]

  def backward():
    out = run(*leaves)
    found = torch.autograd.grad(out, leaves, gradient)
    wait()
    return [out, *found]

  return [forward, backward]


def as_jax(arrays: list) -> list[np.ndarray]:
  """Returns PyTorch's output and gradients in the order of JAX."""
  orders = (0, 2, 3, 1), (0, 2, 3, 1), (2, 3, 1, 0)
  return [
    array.detach().cpu().permute(order).numpy()
    for array, order in zip(arrays, orders, strict=False)
  ]


def error(found: list, wanted: list) -> float:
  """Returns the largest difference, relative to the largest number."""
  return max(
    float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max())
    for a, b in zip(found, wanted, strict=True)
  )


def rounds(calls: dict[str, Call]) -> dict[str, list[float]]:
  """Returns each call's seconds in each of the rounds."""
  times: dict[str, list[float]] = {name: [] for name in calls}
  names = list(calls)
  for _ in range(_ROUNDS):
    names.append(names.pop(0))  # Each goes first in its turn.
    for name in names:
      calls[name]()
      count, start = 0, time.perf_counter()
      while time.perf_counter() - start < _TURN_SECONDS:
        calls[name]()
        count += 1
      times[name].append((time.perf_counter() - start) / count)
  return times


def layer_rows(layer: Layer) -> list[dict[str, Any]]:
  """Returns what forward, and forward and backward, of a layer take."""
  generator = np.random.default_rng(0)
  x = generator.normal(
    size=(layer.batch, layer.size, layer.size, layer.channels)
  )
  kernel = generator.normal(
    size=(layer.kernel, layer.kernel, 1, layer.channels)
  )
  out = jax.eval_shape(functools.partial(own_conv, layer=layer), x, kernel)
  gradient = generator.normal(size=out.shape)
  arrays = [a.astype(np.float32) for a in (x, kernel, gradient)]
  made = {
    "effarch": jax_calls(own_conv, layer, arrays),
    "grouped": jax_calls(grouped_conv, layer, arrays),
  }
  if torch is not None:
    made["PyTorch"] = torch_calls(layer, arrays)
  rows = []
  for index, passes in enumerate(("forward", "forward+backward")):
    calls = {name: own[index] for name, own in made.items()}
    outs = {name: call() for name, call in calls.items()}
    if torch is not None:
      outs["PyTorch"] = as_jax(outs["PyTorch"])
    times = rounds(calls)
    row = {**layer._asdict(), "passes": passes, "milliseconds": {}, "ratio": {}}
    for name, own in times.items():
      row["milliseconds"][name] = 1e3 * float(np.median(own))
      # Of turns side by side, so that a machine's drift meets both alike.
      ratios = np.divide(own, times["effarch"])
      row["ratio"][name] = [
        float(q) for q in np.percentile(ratios, (25, 50, 75))
      ]
    row["error"] = {n: error(o, outs["grouped"]) for n, o in outs.items()}
    rows.append(row)
  return rows


def table(rows: list[dict[str, Any]], device: str) -> Table:
  """Returns milliseconds, and how many times as fast effarch is."""
  rivals = [name for name in rows[0]["ratio"] if name != "effarch"]
  found = Table(title=f"depthwise convolution, float32, {device}")
  titles = ["layer", "batch, size, channels, kernel, stride", "effarch ms"]
  for rival in rivals:
    titles += [f"{rival} ms", "ratio"]
  for title in titles:
    found.add_column(title, justify="right")
  for passes in ("forward", "forward+backward"):
    chosen = [row for row in rows if row["passes"] == passes]
    found.add_section()
    found.add_row(passes)
    for row in chosen:
      shape = ", ".join(str(row[name]) for name in Layer._fields[1:])
      cells = [row["name"], shape, f"{row['milliseconds']['effarch']:.2f}"]
      for rival in rivals:
        cells += [
          f"{row['milliseconds'][rival]:.2f}",
          f"{row['ratio'][rival][1]:.2f}x",
        ]
      found.add_row(*cells)
    means = []
    for rival in rivals:
      medians = [row["ratio"][rival][1] for row in chosen]
      means += ["", f"{np.exp(np.mean(np.log(medians))):.2f}x"]
    found.add_row("geometric mean", "", "", *means)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  options = parser.parse_args()
  words = ["python", "-m", "benchmarks.depthwise", *sys.argv[1:]]
  record = provenance(shlex.join(words))
  if torch is not None:
    record["versions"]["torch"] = torch.__version__
  rows = []
  for layer in LAYERS:
    rows += layer_rows(layer)
  Console(width=120).print(table(rows, record["device"]))
  if options.json:
    options.json.write_text(
      json.dumps({"provenance": record, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
  main()
