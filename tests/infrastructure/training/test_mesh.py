"""The same training on one device and spread over four."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]


def run(devices, *words):
  flags = f"--xla_force_host_platform_device_count={devices}"
  return subprocess.run(
    [sys.executable, *words],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": flags},
    capture_output=True,
    text=True,
    timeout=300,
  )


def train(workdir, devices, *overrides):
  return run(
    devices,
    *("-m", "experiments.train"),
    *("--config=configs/digits.py:w=0.05", f"--workdir={workdir}"),
    *("--config.training.epochs=2", "--config.training.evaluate_every=1"),
    *overrides,
  )


def test_four_devices_learn_what_one_learns(tmp_path):
  rows = {}
  for devices in (1, 4):
    done = train(tmp_path / str(devices), devices)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / str(devices) / "metrics.jsonl").read_text()
    rows[devices] = [json.loads(line) for line in text.splitlines()]
    start = json.loads(
      (tmp_path / str(devices) / "provenance.jsonl").read_text()
    )
    assert start["device_count"] == devices
  for one, four in zip(rows[1], rows[4], strict=True):
    assert one["step"] == four["step"]
    # Sums over the batch, BatchNorm's too, differ by rounding alone.
    assert one["train/loss"] == pytest.approx(four["train/loss"], rel=2e-3)
    assert one["validation/loss"] == pytest.approx(
      four["validation/loss"], rel=2e-2
    )


def test_batch_must_fill_the_devices(tmp_path):
  done = train(tmp_path, 4, "--config.training.batch_size=66")
  assert done.returncode == 2
  assert "batch_size: 66 is no multiple of the 4 devices" in done.stderr


# Prints the shapes that lie on each device, and the mean over 21 examples.
SPREAD = """
import sys
import jax, numpy as np, optax
from flax import nnx
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import Loop, RunFolder, evaluate, fit
from effarch.infrastructure.training import loop

original = loop.make_steps

def watched(*args, **options):
  take = original(*args, **options)
  def call(state, arrays, indices, *others):
    trees = (indices, jax.tree.leaves(state.params)[0])
    print([[[*s.data.shape] for s in t.addressable_shards] for t in trees])
    return take(state, arrays, indices, *others)
  return call

loop.make_steps = watched
data = Dataset(
  np.eye(21, 8, dtype=np.float32), np.arange(21, dtype=np.int32) % 2, ("a", "b")
)
model = nnx.Linear(8, 2, rngs=nnx.Rngs(0))
logits = np.asarray(model(data.inputs))
print(evaluate(model, data, batch_size=10)["accuracy"])
print(np.mean(logits.argmax(-1) == data.labels))
fit(
  model, data, data, loop=Loop(1, 12), optimizer=optax.sgd(0.1),
  folder=RunFolder(sys.argv[1]),
)
"""


def test_each_device_takes_its_share_of_the_batch(tmp_path):
  done = run(4, "-c", SPREAD, str(tmp_path))
  assert done.returncode == 0, done.stderr
  mean, expected, shapes = map(json.loads, done.stdout.splitlines()[:3])
  assert mean == pytest.approx(expected, abs=1e-12)
  batch, kernel = shapes
  assert batch == [[1, 3]] * 4
  assert len(kernel) == 4
  assert kernel[0] == kernel[1]
