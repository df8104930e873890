"""What the token mixers cost over the length: time, memory, MACs.

  pip install torch
  python -m benchmarks.attention [--json=FILE] [--plot=FILE] [--longest=65536]

Two parts. Functions: exact and linear attention of given queries, keys and
values, `1 T 8 64` in float32, beside `jax.nn.dot_product_attention` and
PyTorch's `scaled_dot_product_attention` (left out without PyTorch). Mixers:
every one of the table with its projections, 512 channels and 8 heads, one
sequence, with the arguments that the tests give them. Causal alone where a
mixer is nothing else, and then compared with causal exact attention.

Forward, and forward and backward: the gradients of the sum of squares of the
output for input and parameters. Programs of one length are timed in turns, in
several rounds; seconds are medians, with those of the fastest and the slowest
round. Memory is what the compiler allots: arguments, results and temporaries,
of functions the temporaries alone. What would take longer than `--seconds` a
call or more than `--gigabytes`, by the length before, is left out; no more than
that is held at a time, so that at great lengths fewer take turns.

The file is written after each length. If it is there already, what it has is
not run again, and each row tells the run that it is of.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.attention_tables import markdown, plot
from benchmarks.mixers import CASES
from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.full import attention
from effarch.architectures.attention.kernel import kernel_attention
from effarch.architectures.attention.sizes import Size, make
from effarch.infrastructure.cost import measure
from effarch.infrastructure.training import provenance

try:
  import torch
except ImportError:
  torch = None

_SHORTEST, _ROUNDS, _FUNCTION_LENGTHS = 256, 3, (1024, 4096, 8192)
Row = dict[str, Any]


def rounds(calls: dict[str, Callable[[], Any]]) -> dict[str, Row]:
  """Returns each call's seconds: the median, and those of its rounds."""
  times: dict[str, list[float]] = {name: [] for name in calls}
  for _ in range(_ROUNDS):
    for name, call in calls.items():
      first = _seconds(call)
      # What takes long needs no warming up, nor many calls.
      more = 0 if first > 2 else min(10, 1 + int(0.1 / first))
      each = [_seconds(call) for _ in range(more)] or [first]
      times[name].append(statistics.median(each))
  return {
    name: {
      "seconds": statistics.median(own),
      "seconds_low": min(own),
      "seconds_high": max(own),
    }
    for name, own in times.items()
  }


def _seconds(call: Callable[[], Any]) -> float:
  start = time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - start


def _both(function: Callable[..., jax.Array], argnums: tuple[int, ...]):
  """Returns the gradients of the sum of squares of a function's output."""

  def squares(*arguments):
    return jnp.square(function(*arguments)).sum()

  return jax.grad(squares, argnums)


def _linear(query, key, value, causal):
  query, key = nnx.elu(query) + 1, nnx.elu(key) + 1
  return kernel_attention(query, key, value, causal=causal)


FUNCTIONS = {
  "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
  "effarch exact": attention,
  "effarch linear": lambda q, k, v: _linear(q, k, v, False),
  "effarch linear, causal": lambda q, k, v: _linear(q, k, v, True),
}


def function_rows(lengths: tuple[int, ...]) -> list[Row]:
  """Returns seconds and temporary bytes of attention without projections."""
  rows = []
  for length in lengths:
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = [jax.random.normal(k, (1, length, 8, 64)) for k in keys]
    for backward in (False, True):
      calls, memory = {}, {}
      for name, function in FUNCTIONS.items():
        run = _both(function, (0, 1, 2)) if backward else function
        compiled = jax.jit(run).lower(*inputs).compile()
        memory[name] = compiled.memory_analysis().temp_size_in_bytes
        calls[name] = functools.partial(compiled, *inputs)
      if torch is not None:
        calls["PyTorch"] = _torch(inputs, backward)
      found = rounds(calls)
      rows += [
        {
          "function": name,
          "length": length,
          "backward": backward,
          "temporary_bytes": memory.get(name),
          **seconds,
        }
        for name, seconds in found.items()
      ]
  return rows


def _torch(inputs, backward: bool) -> Callable[[], Any]:
  device = "cuda" if torch.cuda.is_available() else "cpu"
  tensors = [
    torch.tensor(jax.device_get(x)).to(device).transpose(1, 2).contiguous()
    for x in inputs
  ]

  def call():
    for tensor in tensors:
      tensor.requires_grad_(backward).grad = None
    out = torch.nn.functional.scaled_dot_product_attention(*tensors)
    if backward:
      out.square().sum().backward()
    if device == "cuda":
      torch.cuda.synchronize()

  return call


def mixer_rows(
  names: list[str],
  length: int,
  backward: bool,
  before: list[Row],
  limits: tuple[float, float],
) -> list[Row]:
  """Returns the costs of the mixers that are within the limits.

  Args:
    names: of mixers.
    length: tokens.
    backward: with the gradients.
    before: rows of shorter lengths, which tell what to expect.
    limits: seconds a call, and bytes.
  """
  shorter = [row for row in before if row["backward"] == backward]
  last = {
    (row["mixer"], row["causal"]): row
    for row in shorter
    if row["length"] * 4 == length
  }
  rows: list[Row] = []
  calls, found, held = {}, {}, 0

  def run():
    for label, times in rounds(calls).items():
      rows.append({**found[label], **times})
    calls.clear()

  for name, causal in _forms(names):
    expected = last.get((name, causal))
    if shorter and not (expected and _fits(expected, name, *limits)):
      continue
    report = _report(name, Size(t=length), causal, backward)
    if held + report.peak_bytes > limits[1]:
      run()
      held = 0
    held += report.peak_bytes
    label = f"{name} {causal}"
    calls[label] = report.executable.call()
    found[label] = {
      "mixer": name,
      "causal": causal,
      "length": length,
      "backward": backward,
      "macs": report.macs,
      "flops": report.flops,
      "peak_bytes": report.peak_bytes,
    }
  run()
  return rows


def _forms(names: list[str]) -> list[tuple[str, bool]]:
  """Returns mixers, each as it is most often compared, and if it is causal."""
  forms = []
  for name in names:
    kind = ATTENTION[name]
    forms.append((name, not kind.supports.bidirectional))
    if name == "full":
      forms.append((name, True))
  return forms


def _fits(before: Row, name: str, seconds: float, size: float) -> bool:
  """Tells whether four times the length is within the limits."""
  power = 4 ** ATTENTION[name].supports.growth
  within = before["seconds"] * power <= seconds
  return within and before["peak_bytes"] * power <= size


def _report(name: str, size: Size, causal: bool, backward: bool):
  mixer = make(name, size)
  mixer.eval()
  graphdef, params, rest = nnx.split(mixer, nnx.Param, ...)

  def forward(params, x):
    return nnx.merge(graphdef, params, rest, copy=True)(x, causal=causal)

  x = jax.random.normal(jax.random.key(0), (size.b, size.t, size.c))
  run = _both(forward, (0, 1)) if backward else forward
  return measure(run, x, variables=params)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  parser.add_argument("--plot", type=pathlib.Path)
  parser.add_argument("--longest", type=int, default=65536)
  parser.add_argument("--seconds", type=float, default=30)
  parser.add_argument("--gigabytes", type=float, default=8)
  parser.add_argument("--mixers", nargs="*", default=list(CASES))
  options = parser.parse_args()
  words = ["python", "-m", "benchmarks.attention", *sys.argv[1:]]
  record = provenance(shlex.join(words))
  if torch is not None:
    record["versions"]["torch"] = torch.__version__
  found: dict[str, Any] = {"runs": [], "functions": [], "mixers": []}
  if options.json and options.json.exists():
    found = json.loads(options.json.read_text())
  number = len(found["runs"])
  found["runs"].append(record)

  def keep(part: str, rows: list[Row]) -> None:
    found[part] += [{"run": number, **row} for row in rows]
    if options.json:
      options.json.write_text(json.dumps(found, indent=2) + "\n")

  if not found["functions"]:
    keep("functions", function_rows(_FUNCTION_LENGTHS))
  limits = options.seconds, options.gigabytes * 1e9
  length = _SHORTEST
  while length <= options.longest:
    for backward in (False, True):
      there = {(row["length"], row["backward"]) for row in found["mixers"]}
      if (length, backward) not in there:
        form = options.mixers, length, backward
        keep("mixers", mixer_rows(*form, found["mixers"], limits))
    length *= 4
  Console().print(Markdown(markdown(found)))
  if options.plot:
    options.plot.write_bytes(plot(found))


if __name__ == "__main__":
  main()
