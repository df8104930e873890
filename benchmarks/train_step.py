"""One training step of the survey CNN: effarch, plain Flax, PyTorch.

  pip install torch
  python -m benchmarks.train_step [--json=FILE]

Images a second at batch 128, float32, AdamW, the three timed in turns within
one process, each waited for once a turn. effarch's step is the loop's own,
which also gathers the batch from the data set and turns its pixels to floats,
and takes as many steps in one dispatch as the loop would; the two others get
the same ready batch again and again. Without PyTorch its column is left out.
The matrix precision is each library's default: on recent GPUs TF32 in XLA, and
in PyTorch TF32 for convolutions alone.
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

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

from effarch.architectures.models import MODELS
from effarch.infrastructure.training import (
  Loop,
  State,
  classification_loss,
  make_steps,
  provenance,
)
from effarch.infrastructure.training.mesh import data_mesh, replicated

try:
  import torch
except ImportError:
  torch = None

_BATCH, _ROUNDS, _WIDTHS = 128, 31, (0.05, 1.0)
_RATE, _WEIGHT_DECAY = 1e-3, 1e-4
# A step's dispatch, and what waits for all steps dispatched; how many they are.
Contender = tuple[Callable[[], None], Callable[[], None], int]


def new_model(width: float) -> nnx.Module:
  return MODELS["survey_cnn"](
    (32, 32, 3), 10, width_multiplier=width, rngs=nnx.Rngs(0)
  )


def effarch_steps(width, images, labels) -> Contender:
  """The loop's own program."""
  steps = Loop(epochs=1, batch_size=_BATCH).dispatched
  model = new_model(width)
  model.train()
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  tx = optax.adamw(_RATE, weight_decay=_WEIGHT_DECAY)
  mesh = data_mesh()
  state = jax.device_put(
    State(jnp.zeros((), jnp.int32), params, rest, tx.init(params)),
    replicated(mesh),
  )
  arrays = jax.device_put((images, labels, {}), replicated(mesh))
  indices = jnp.tile(jnp.arange(_BATCH, dtype=jnp.int32), (steps, 1))
  key = jax.random.key(0)
  take = make_steps(
    graphdef, tx, (), classification_loss, 10, mesh, total_steps=1
  )

  def call():
    nonlocal state
    state, _ = take(state, arrays, indices, key)

  return call, lambda: jax.block_until_ready(state), steps


def flax_steps(width, images, labels) -> Contender:
  """The step of Flax's own tutorial: `nnx.jit` around model and optimizer."""
  model = new_model(width)
  model.train()
  optimizer = nnx.Optimizer(
    model, optax.adamw(_RATE, weight_decay=_WEIGHT_DECAY), wrt=nnx.Param
  )
  inputs = jnp.asarray(images, jnp.float32) / 127.5 - 1
  targets = jnp.asarray(labels)

  @functools.partial(nnx.jit, donate_argnums=(0, 1))
  def step(model, optimizer):
    def objective(model):
      logits = model(inputs)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
      return losses.mean()

    optimizer.update(model, nnx.grad(objective)(model))

  def wait():
    jax.block_until_ready(nnx.state((model, optimizer)))

  return lambda: step(model, optimizer), wait, 1


def torch_steps(width, images, labels) -> Contender:
  """The same network in PyTorch, channels last, eager."""
  device = "cuda" if torch.cuda.is_available() else "cpu"

  def scaled(features):
    return max(1, round(features * width))

  layers, channels = [], 3
  sizes = (32, 32, scaled(64), scaled(64), scaled(128), scaled(128))
  for index, features in enumerate(sizes):
    layers += [
      torch.nn.Conv2d(channels, features, 3, padding=1),
      torch.nn.ReLU(),
      torch.nn.BatchNorm2d(features),
    ]
    if index % 2:
      layers.append(torch.nn.MaxPool2d(2))
    channels = features
  layers += [
    torch.nn.Flatten(),
    torch.nn.Linear(16 * channels, scaled(512)),
    torch.nn.ReLU(),
    torch.nn.Linear(scaled(512), 10),
  ]
  model = torch.nn.Sequential(*layers).to(device)
  model = model.to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(
    model.parameters(), _RATE, weight_decay=_WEIGHT_DECAY
  )
  inputs = torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
  inputs = inputs.to(device, memory_format=torch.channels_last)
  targets = torch.tensor(labels).long().to(device)

  def call():
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()

  wait = torch.cuda.synchronize if device == "cuda" else lambda: None
  return call, wait, 1


def images_per_second(makers: dict, width: float) -> dict[str, list[float]]:
  """Returns each contender's rates, one for each round."""
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (_BATCH, 32, 32, 3)).astype(np.uint8)
  labels = generator.integers(0, 10, _BATCH).astype(np.int32)
  calls = {n: make(width, images, labels) for n, make in makers.items()}
  rates = {name: [] for name in calls}
  names = list(calls)
  turn_steps = 4 if jax.default_backend() == "cpu" else 100
  for round_number in range(_ROUNDS + 1):
    names.append(names.pop(0))  # Each goes first in its turn.
    for name in names:
      call, wait, steps = calls[name]
      turns = turn_steps // steps
      start = time.perf_counter()
      for _ in range(turns):
        call()
      wait()
      if round_number:  # The first round compiles and warms up.
        elapsed = time.perf_counter() - start
        rates[name].append(turns * steps * _BATCH / elapsed)
  return rates


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path)
  options = parser.parse_args()
  makers = {"effarch": effarch_steps, "plain Flax": flax_steps}
  if torch is not None:
    makers["PyTorch"] = torch_steps
  words = ["python", "-m", "benchmarks.train_step", *sys.argv[1:]]
  record = provenance(shlex.join(words))
  if torch is not None:
    record["versions"]["torch"] = torch.__version__
  table = Table(title=f"survey CNN, batch {_BATCH}, {record['device']}")
  for title in ("width", "", "images/s", "effarch is", "quartiles"):
    table.add_column(title, justify="right")
  rows = []
  for width in _WIDTHS:
    rates = images_per_second(makers, width)
    for name, values in rates.items():
      # Of turns side by side, so that a machine's drift meets both alike.
      ratios = np.divide(rates["effarch"], values)
      low, ratio, high = np.percentile(ratios, (25, 50, 75))
      row = {
        "width": width,
        "step": name,
        "images_per_second": statistics.median(values),
        "effarch_ratio": ratio,
        "effarch_ratio_quartiles": [low, high],
      }
      rows.append(row)
      table.add_row(
        str(width),
        name,
        f"{row['images_per_second']:,.0f}",
        f"{ratio:.2f}x",
        f"{low:.2f} to {high:.2f}x",
      )
  Console(width=100).print(table)
  if options.json:
    options.json.write_text(
      json.dumps({"provenance": record, "rows": rows}, indent=2) + "\n"
    )


if __name__ == "__main__":
  main()
