"""What rounding costs, and what saves it: files of one network, side by side.

  python -m benchmarks.quantization --workdir=runs/quantization --data=DIRECTORY

Trains each network of `configs/quantization/cifar10.py` in float, rounds it
after training in many ways, trains it on with rounded weights, ships all as
LiteRT files and some in every format, and adds what the files reach to
`results/quantization_cpu.json`. Stopped, it goes on. The directory holds
CIFAR-10, or folders of images by class.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from configs.quantization import cifar10
from effarch.architectures.convolution import fold
from effarch.automation.trial import Trial
from effarch.compression.quantize import (
  Scheme,
  choose,
  correct_biases,
  equalize,
  post_training,
  round_weights,
)
from effarch.infrastructure.data import decode
from effarch.infrastructure.export import (
  FORMATS,
  read_artifacts,
  ship,
  time_artifacts,
)
from effarch.infrastructure.runtime import load
from effarch.infrastructure.training import RunFolder

RESULTS = pathlib.Path("results/quantization_cpu.json")
_EXAMPLES = 200
_TENSOR = Scheme("int8", per="tensor")
_INT4 = Scheme("int4")
# What ships in every format; else as a LiteRT file.
_COMPARED = ("float32", "int8", "int4", "int4_trained")

Way = Callable[[nnx.Module, jax.Array], nnx.Module]


def _equalized(model: nnx.Module, x: jax.Array) -> nnx.Module:
  equalize(model, jax.ShapeDtypeStruct(x.shape, x.dtype))
  return post_training(model, [x], weights=_TENSOR)


def _corrected(model: nnx.Module, x: jax.Array) -> nnx.Module:
  equalize(model, jax.ShapeDtypeStruct(x.shape, x.dtype))
  rounded = post_training(model, [x], weights=_TENSOR)
  correct_biases(rounded, model, x)
  return rounded


def _rounded(method: str) -> Way:
  def way(model, x):
    rounded = post_training(model, [x], weights=_INT4)
    round_weights(rounded, x, method)
    return rounded

  return way


def _mixed(model: nnx.Module, x: jax.Array) -> nnx.Module:
  weights = [p for p in jax.tree.leaves(nnx.state(model)) if p.ndim > 1]
  budget = 0.75 * sum(weight.size for weight in weights)
  return post_training(model, [x], layers=choose(model, x, budget))


# After training: from the folded model and training inputs.
WAYS: dict[str, Way] = {
  "float32": lambda model, x: model,
  "int8": lambda model, x: post_training(model, [x]),
  "int8_tensor": lambda model, x: post_training(model, [x], weights=_TENSOR),
  "int8_tensor_equalized": _equalized,
  "int8_tensor_corrected": _corrected,
  "int4": lambda model, x: post_training(model, [x], weights=_INT4),
  "int4_gptq": _rounded("gptq"),
  "int4_adaround": _rounded("adaround"),
  "int4_int8": _mixed,
}
# Trained on: their variants.
TRAINED = {
  "int8_trained": "weights=int8",
  "int8_tensor_trained": "weights=int8,scales=tensor",
  "int4_trained": "weights=int4",
  "int4_learned": "weights=int4,learned",
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  parser.add_argument("--data", type=pathlib.Path, required=True)
  parser.add_argument("--json", type=pathlib.Path, default=RESULTS)
  parser.add_argument("--networks", nargs="*", default=list(cifar10.NETWORKS))
  parser.add_argument("--trained", nargs="*", default=list(TRAINED))
  parser.add_argument("--epochs", type=int, nargs=2, default=(15, 3))
  parser.add_argument("--seed", type=int, default=0)
  asked = parser.parse_args()
  rows = json.loads(asked.json.read_text()) if asked.json.exists() else []
  for network in asked.networks:
    folders = list(_runs(network, asked))
    time_artifacts(folders)
    new = [row for folder in folders for row in _rows(network, folder, asked)]
    same = (network, asked.seed)
    rows = [r for r in rows if (r["network"], r["seed"]) != same] + new
    asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(new), parity(new), sep="\n\n")


def _runs(network: str, asked: argparse.Namespace) -> Iterator[RunFolder]:
  """Trains and ships a network in all ways; returns the run folders."""
  variant = f"{network},epochs={asked.epochs[0]},seed={asked.seed}"
  place = f"{network}/seed={asked.seed}"
  trial, folder = _trained(variant, asked, f"{place}/float")
  for formats in (tuple(FORMATS), ("litert",)):
    ship(
      _models(trial, folder, formats),
      folder,
      **_judges(trial),
      formats=formats,
    )
  yield folder
  for name in asked.trained:
    more = f"{network},epochs={asked.epochs[1]},seed={asked.seed},"
    more += f"{TRAINED[name]},start={folder.path}"
    trial, own = _trained(more, asked, f"{place}/{name}")
    if not read_artifacts(own):
      model = fold(trial.trained(own))
      formats = _formats(name)
      ship([(name, model)], own, **_judges(trial), formats=formats)
    yield own


def _trained(
  variant: str, asked: argparse.Namespace, name: str
) -> tuple[Trial, RunFolder]:
  config = cifar10.get_config(variant).to_dict()
  config["data"]["path"] = str(asked.data)
  if not any(asked.data.glob("*batch*")):
    config["data"]["name"] = "image_folder"
  file = f"{cifar10.__name__.replace('.', '/')}.py"
  command = f"python -m experiments.train --config={file}:{variant}"
  folder = RunFolder.open(asked.workdir / name, config, command)
  trial = Trial(config)
  trial.train(folder)
  return trial, folder


def _formats(name: str) -> tuple[str, ...]:
  return tuple(FORMATS) if name in _COMPARED else ("litert",)


def _models(
  trial: Trial, folder: RunFolder, formats: tuple[str, ...]
) -> Iterator[tuple[str, nnx.Module]]:
  train = trial.source.load("train")
  drawn = np.random.default_rng(0).permutation(len(train))[:_EXAMPLES]
  x = decode(train.inputs[drawn])
  known = {row["precision"] for row in read_artifacts(folder)}
  for name, way in WAYS.items():
    if name not in known and _formats(name) == formats:
      yield name, way(fold(trial.trained(folder)), x)
      jax.clear_caches()


def _judges(trial: Trial) -> dict[str, Any]:
  return {name: trial.source.load(name) for name in ("validation", "test")}


def _rows(
  network: str, folder: RunFolder, asked: argparse.Namespace
) -> Iterator[dict[str, Any]]:
  *_, start = folder.read_lines("provenance.jsonl")
  seconds = folder.read("result.json")["train_seconds"]
  for row in read_artifacts(folder):
    operators = None  # XLA computes what it fuses.
    if row["format"] != "stablehlo":
      operators = load(folder.path / row["file"]).float_operators()
    yield {
      "network": network,
      "seed": asked.seed,
      **row,
      "float_operators": operators,
      "train_seconds": seconds,
      "provenance": start,
    }


def table(rows: list[dict[str, Any]]) -> str:
  """Returns Markdown: a line for each LiteRT file."""
  lines = [
    "| network | file | in JAX | in LiteRT | size | latency |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  for row in rows:
    if row["format"] == "litert":
      cells = (
        *(row["network"], row["precision"]),
        *(f"{100 * row[a]:.2f} %" for a in ("jax_accuracy", "accuracy")),
        f"{row['size_bytes'] / 1e3:,.1f} kB",
        f"{row['latency_us']:,.0f} µs",
      )
      lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def parity(rows: list[dict[str, Any]]) -> str:
  """Returns Markdown: a line for each model, a column for each format."""
  titles = ["network", "rounded", "in JAX", *FORMATS]
  titles += ["float in LiteRT", "float in ONNX Runtime"]
  lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
  models: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
  for row in rows:
    key = (row["network"], row["precision"])
    models.setdefault(key, {})[row["format"]] = row
  for (network, precision), files in models.items():
    if len(files) < len(FORMATS):
      continue
    reached = [files["litert"]["jax_accuracy"]]
    reached += [files[name]["accuracy"] for name in FORMATS]
    floats = [
      ", ".join(files[name]["float_operators"]) or "–"
      for name in ("litert", "onnx")
    ]
    if precision == "float32":
      floats = ["all", "all"]
    cells = [network, precision, *(f"{100 * a:.2f} %" for a in reached)]
    lines.append(f"| {' | '.join([*cells, *floats])} |")
  return "\n".join(lines)


if __name__ == "__main__":
  main()
