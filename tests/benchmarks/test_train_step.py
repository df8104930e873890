"""Benchmarks run, shortened; what they measure is not asserted."""

import importlib.util
import json
import sys

import pytest

from benchmarks import train_step


def test_train_step(monkeypatch, tmp_path):
  monkeypatch.setattr(train_step, "_BATCH", 2)
  monkeypatch.setattr(train_step, "_ROUNDS", 1)
  monkeypatch.setattr(train_step, "_WIDTHS", (0.05,))
  file = tmp_path / "out.json"
  monkeypatch.setattr(sys, "argv", ["train_step", f"--json={file}"])
  train_step.main()
  rows = json.loads(file.read_text())["rows"]
  names = {"effarch", "plain Flax"}
  if importlib.util.find_spec("torch"):
    names.add("PyTorch")
  assert {row["step"] for row in rows} == names
  ours = rows[0]["images_per_second"]
  for row in rows:
    ratio = ours / row["images_per_second"]
    assert row["effarch_ratio"] == pytest.approx(ratio)
