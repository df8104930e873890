"""The same training on one device and spread over four."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]


def train(workdir, devices, *overrides):
  flags = f"--xla_force_host_platform_device_count={devices}"
  return subprocess.run(
    [
      *(sys.executable, "-m", "experiments.train"),
      *("--config=configs/digits.py:w=0.05", f"--workdir={workdir}"),
      *("--config.training.epochs=2", "--config.training.evaluate_every=1"),
      *overrides,
    ],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": flags},
    capture_output=True,
    text=True,
    timeout=300,
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
