"""What counters of FLOPs find in the same programs, beside the truth.

  pip install torch fvcore
  python -m benchmarks.counters [--json=FILE]

The truth is in closed form: the FLOPs of matrix products and convolutions, two
for each multiply-accumulate, with those on padding, and of a `cond` those of
the costlier branch. Each cell is a count divided by it, in bold if it is off.

effarch, fvcore and PyTorch count just that, and are off if they aren't equal to
it. fvcore counts multiply-accumulates, so they are doubled here; its counts of
norms and pools are left out. The others count all other arithmetic too, and
are off below the truth and above 1.10 of it: XLA before it optimizes
("lowered") and after ("compiled"), `nnx.tabulate`, which asks the former, and
JAX's roofline (its `unfused_flops`; its `flops` know no convolution).

fvcore and PyTorch count a twin of the same layers; without them their columns
are left out. A dash: there is no such program for that counter. Seconds are
those of counting alone, on a model that is there already; what needs compiling
is compiled in them, and `nnx.tabulate` and PyTorch run it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import pathlib
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.roofline import roofline
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.known_costs import Case, loss, networks, small_programs
from effarch.architectures.convolution import plain_convolutions
from effarch.infrastructure.cost import count, measure
from effarch.infrastructure.training import provenance

try:
  import torch
  from torch.utils.flop_counter import FlopCounterMode

  from benchmarks import torch_networks
except ImportError:
  torch = None
try:
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It scripts what PyTorch deprecated.
    from fvcore import nn as fvcore
except ImportError:
  fvcore = None

_ONLY_PRODUCTS = ("effarch", "fvcore", "PyTorch")
# As fvcore names them.
_PRODUCTS = ("addmm", "bmm", "conv", "einsum", "linear", "matmul", "mm")
# A call that counts, or None where there is no such program.
Counter = Callable[[], float] | None


def _model(case: Case) -> Any:
  model = case.program()
  if isinstance(model, nnx.Module):
    model.train() if case.trains else model.eval()
  return model


def _variables(model: nn.Module, case: Case) -> Any:
  return jax.eval_shape(model.init, jax.random.key(0), *case.inputs)


def _function(case: Case) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """Returns what JAX's own counters take: a function and its arguments."""
  if not case.network:
    return case.program, case.inputs
  model = _model(case)
  if isinstance(model, nn.Module):
    return model.apply, (_variables(model, case), *case.inputs)
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)

  def run(params, rest, *inputs):
    return nnx.merge(graphdef, params, rest, copy=True)(*inputs)

  step = jax.value_and_grad(lambda *arguments: loss(run(*arguments)))
  return step if case.trains else run, (params, rest, *case.inputs)


def _effarch(case: Case) -> Counter:
  if not case.network:
    return lambda: 2 * count(case.program, *case.inputs).macs
  model, options = _model(case), {"train": case.trains, "loss": loss}
  if isinstance(model, nn.Module):
    options["variables"] = _variables(model, case)
  return lambda: 2 * measure(model, *case.inputs, **options).macs


def _lowered(case: Case) -> Counter:
  function, arguments = _function(case)
  return lambda: jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def _compiled(case: Case) -> Counter:
  function, arguments = _function(case)
  lower = jax.jit(function).lower
  return lambda: lower(*arguments).compile().cost_analysis()["flops"]


def _roofline(case: Case) -> Counter:
  function, arguments = _function(case)
  return lambda: roofline(function)(*arguments)[1].unfused_flops


def _tabulate(case: Case) -> Counter:
  model = _model(case) if case.network and not case.trains else None
  if not isinstance(model, nnx.Module):
    return None
  graphdef, *arrays = (*nnx.split(model), case.inputs)
  # It runs the model, so it takes no shapes.
  state, inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), arrays)
  model = nnx.merge(graphdef, state)

  def tabulate():
    text = nnx.tabulate(
      model,
      *inputs,
      depth=0,
      compute_flops=True,
      console_kwargs={"width": 400},
    )
    rows = [line.split("│") for line in text.splitlines()]
    kind = type(model).__name__
    return next(int(row[5]) for row in rows if row[2:3] and kind in row[2])

  return tabulate


def _twin(case: Case) -> tuple[Any, Any]:
  """Returns the PyTorch module and its input."""
  shape = case.inputs[0].shape
  tokens = case.inputs[0].dtype == jnp.int32
  inputs = torch.zeros(shape, dtype=torch.long if tokens else torch.float)
  if len(shape) == 4:
    inputs = inputs.permute(0, 3, 1, 2)
  return case.twin(torch_networks).train(case.trains), inputs


def _fvcore(case: Case) -> Counter:
  if not case.twin or case.trains:
    return None
  model, inputs = _twin(case)

  def analyze():
    found = fvcore.FlopCountAnalysis(model, inputs)
    found.unsupported_ops_warnings(False)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Of what tracing can't see.
      operators = found.by_operator()
    return 2 * sum(operators[name] for name in _PRODUCTS)

  return analyze


def _pytorch(case: Case) -> Counter:
  if not case.twin:
    return None
  model, inputs = _twin(case)

  def run():
    with FlopCounterMode(display=False) as mode:
      outputs = model(inputs)
      if case.trains:
        outputs.square().mean().backward()
    return mode.get_total_flops()

  return run


def counters() -> dict[str, Callable[[Case], Counter]]:
  """Returns the counters that are installed."""
  found = {
    "effarch": _effarch,
    "XLA lowered": _lowered,
    "XLA compiled": _compiled,
    "roofline": _roofline,
    "nnx.tabulate": _tabulate,
  }
  if torch and fvcore:
    found["fvcore"] = _fvcore
  if torch:
    found["PyTorch"] = _pytorch
  return found


def rows_of(cases: list[Case]) -> list[dict[str, Any]]:
  """Returns what each counter finds in each case, and how long it takes."""
  rows = []
  for case in cases:
    counts = {}
    for name, counter in counters().items():
      call = counter(case)
      start = time.perf_counter()
      with plain_convolutions():  # Calls of oneDNN show the others nothing.
        flops = call() if call else None
      seconds = time.perf_counter() - start if call else None
      counts[name] = {"flops": flops, "seconds": seconds}
    rows.append(
      {
        "program": case.name,
        "network": case.network,
        "flops": 2 * case.macs,
        "counts": counts,
      }
    )
  return rows


def markdown(rows: list[dict[str, Any]]) -> str:
  """Returns a table of counts, and of the networks' seconds."""
  names = list(rows[0]["counts"])

  def ratio(row, name):
    flops, truth = row["counts"][name]["flops"], row["flops"]
    if flops is None:
      return "–"
    most = truth if name in _ONLY_PRODUCTS else 1.1 * truth
    text = f"{flops / truth:.2f}"
    return text if truth <= flops <= most else f"**{text}**"

  def seconds(row, name):
    found = row["counts"][name]["seconds"]
    return "–" if found is None else f"{found:.2f}"

  def table(title, rows, cell):
    lines = [[title, "MFLOPs", *names], [":--", *["--:"] * (1 + len(names))]]
    for row in rows:
      cells = [cell(row, name) for name in names]
      lines.append([row["program"], f"{row['flops'] / 1e6:,.1f}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

  timed = [row for row in rows if row["network"]]
  tables = [table("count / truth", rows, ratio)]
  if timed:
    tables.append(table("seconds", timed, seconds))
  return "\n\n".join(tables)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  options = parser.parse_args()
  words = ["python", "-m", "benchmarks.counters", *sys.argv[1:]]
  record = provenance(shlex.join(words))
  for name, module in (("torch", torch), ("fvcore", fvcore)):
    if module:
      record["versions"][name] = importlib.metadata.version(name)
  # The roofline warns of each primitive that it does not know.
  logging.getLogger("absl").setLevel(logging.ERROR)
  rows = rows_of([*small_programs(), *networks()])
  Console(width=140).print(Markdown(markdown(rows)))
  if options.json:
    options.json.write_text(
      json.dumps({"provenance": record, "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
  main()
