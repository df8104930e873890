"""Run folders as training, shipping and measuring leave them, but written."""

import io
import json
import pathlib

import pytest
from rich.console import Console

from effarch.infrastructure.training import RunFolder
from effarch.strategies.report import report

_CONFIG = {
  "seed": 0,
  "model": {"name": "survey_cnn", "width_multiplier": 1.0},
  "techniques": [{"name": "label_smoothing", "smoothing": 0.1}],
}


@pytest.fixture
def write_run(tmp_path):
  """Writes one run, below `tmp_path / "study"`.

  The function takes the run's place, the config's parts that are not the
  usual ones, the artifacts as rows with what differs from a usual one (`None`
  for what is missing), the lines of its curve, and its command.
  """

  def write(place, config=None, artifacts=(), curve=None, command="train"):
    folder = RunFolder(tmp_path / "study" / place)
    folder.write("config.json", {**_CONFIG, **(config or {})})
    curve = curve or [
      {"step": 10 * epoch, "epoch": epoch, "validation/accuracy": 0.1 * epoch}
      for epoch in (1, 2)
    ]
    _lines(folder, "metrics.jsonl", curve)
    starts = [
      {"time": f"day {day}", "command": command, "device": "d", "versions": {}}
      for day in (1, 2)
    ]
    _lines(folder, "provenance.jsonl", starts)
    result = {"step": 20, "epoch": 2, "test/accuracy": 0.2}
    costs = {"params": 20, "statistics": 4, "macs": 300, "flops": 640}
    folder.write("result.json", {**result, "train_seconds": 1.5, **costs})
    for number, row in enumerate(artifacts):
      precision = row.get("precision", "float32")
      usual = {
        "file": f"artifacts/{precision}.tflite",
        "precision": precision,
        "format": "litert",
        "size_bytes": 1000 * (number + 1),
        "accuracy": 0.5,
        "validation_accuracy": 0.6,
        "jax_accuracy": 0.5,
        "differs": 0,
        "latency_us": 7.5,
      }
      row = {name: v for name, v in {**usual, **row}.items() if v is not None}
      folder.write(f"{row['file']}.json", row)
    return folder

  return write


@pytest.fixture
def base():
  """A trial's config with one technique."""
  return {
    "seed": 7,
    "data": {"name": "digits", "split_seed": 0},
    "model": {"name": "survey_cnn", "width_multiplier": 0.05},
    "techniques": ({"name": "label_smoothing", "smoothing": 0.1},),
    "optimizer": {
      "name": "adam",
      "learning_rate": 0.01,
      "clip_norm": 0.0,
      "schedule": {"name": "cosine", "warmup_fraction": 0.1},
    },
    "training": {"epochs": 10, "batch_size": 8},
    "export": {"precisions": ("float32",)},
  }


@pytest.fixture
def study(tmp_path) -> pathlib.Path:
  """The folder that runs are written below."""
  folder = tmp_path / "study"
  folder.mkdir()
  return folder


@pytest.fixture
def printed(study):
  """Makes the study's report, or others'; returns what was printed."""

  def make(folder=study, *others, **options):
    out = io.StringIO()
    report([folder, *others], Console(file=out, width=200), **options)
    return out.getvalue()

  return make


def _lines(folder, name, rows) -> None:
  text = "".join(json.dumps(row) + "\n" for row in rows)
  folder.write_bytes(name, text.encode())
