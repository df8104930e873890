"""The benchmarks of sequences run, and their tables say what they found."""

import json
import pathlib
import shutil
import sys

import pytest

from benchmarks import generation, runs, sequence_tables, sequence_tasks
from benchmarks.sequence_tasks import Task
from configs.sequence import mnist1d

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def tasks(monkeypatch):
  small = ",features=16,heads=2,depth=1,hidden=8,epochs=1"
  task = Task(
    *("configs/sequence/mnist1d.py", mnist1d.get_config, small),
    ("full", "fnet"),
  )
  monkeypatch.setattr(sequence_tasks, "TASKS", {"mnist1d": task})


def test_tasks_are_trained_once_and_shared(tasks, monkeypatch, tmp_path):
  out = tmp_path / "out.json"
  words = ["x", f"--workdir={tmp_path}/runs", f"--json={out}", "--seeds", "0"]
  monkeypatch.setattr(sys, "argv", words)
  # Another process is at one of them.
  (tmp_path / "runs").mkdir()
  original = runs.Trial.train

  def busy(self, folder):
    if "fnet" in folder.path.name:
      raise runs.BusyError("another process trains here")
    return original(self, folder)

  with monkeypatch.context() as patch:
    patch.setattr(runs.Trial, "train", busy)
    sequence_tasks.main()
  found = json.loads(out.read_text())
  assert [run["mixer"] for run in found["runs"]] == ["full"]
  sequence_tasks.main()
  again = json.loads(out.read_text())
  assert again["runs"][0] == found["runs"][0]
  assert [run["mixer"] for run in again["runs"]] == ["full", "fnet"]
  for run in again["runs"]:
    assert 0 < run["test/accuracy"] < 1
    assert len(run["validation"]) == 1
    assert "mnist1d.py:" in run["provenance"]["command"]
  # On another machine, without the folders, it is not trained again.
  shutil.rmtree(tmp_path / "runs")
  with monkeypatch.context() as patch:
    patch.delattr(runs.Trial, "train")
    sequence_tasks.main()
  assert json.loads(out.read_text()) == again
  full, fnet = again["models"]
  assert fnet["params"] <= full["params"]
  assert fnet["macs"] <= full["macs"]


def test_language_needs_a_text(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(sys, "argv", ["x", f"--workdir={tmp_path}"])
  with pytest.raises(SystemExit):
    sequence_tasks.main()
  assert "needs --text=FILE" in capsys.readouterr().err


def test_generation_runs(monkeypatch, tmp_path):
  out = tmp_path / "out.json"
  monkeypatch.setattr(generation, "_ROUNDS", 1)
  monkeypatch.setattr(generation, "_DEPTH", 1)
  words = ["x", f"--json={out}", "--mixers", "full", "linear"]
  monkeypatch.setattr(
    sys, "argv", [*words, "--lengths", "8", "16", "--batches", "2"]
  )
  generation.main()
  rows = json.loads(out.read_text())["rows"]
  assert len(rows) == 4
  for row in rows:
    assert 0 < row["slowest"] <= row["tokens_per_second"] <= row["fastest"]
  sizes = {(row["mixer"], row["length"]): row["state_bytes"] for row in rows}
  assert sizes["linear", 8] == sizes["linear", 16]
  # Keys and values of 64 channels in float32, for two sequences.
  assert sizes["full", 16] - sizes["full", 8] == 2 * 8 * 2 * 64 * 4


def found(accuracies):
  runs = [
    {
      "task": "mnist1d",
      "mixer": "full",
      "seed": seed,
      "test/accuracy": value,
      "test/loss": 1.0,
    }
    for seed, value in enumerate(accuracies)
  ]
  model = {"task": "mnist1d", "mixer": "full", "params": 12_345, "macs": 6e6}
  return {"runs": runs, "models": [model]}


def test_a_row_has_mean_and_spread_over_seeds():
  table = sequence_tables.accuracies(found([0.5, 0.6, 0.7]))
  row = table.splitlines()[-1]
  assert row == "| full | – | – | 60.0 ± 10.0 | 12 k, 6.00 M |"
  assert "50.0 (one seed)" in sequence_tables.accuracies(found([0.5]))


def test_generating_is_told_beside_the_cache():
  rows = [
    {
      "mixer": mixer,
      "length": length,
      "batch_size": 2,
      "tokens_per_second": speed,
      "state_bytes": size,
    }
    for mixer, speed, sizes in (
      ("full", 1000.0, (4_000, 8_000)),
      ("linear", 2500.0, (2_000, 2_000)),
    )
    for length, size in zip((256, 1024), sizes, strict=True)
  ]
  lines = sequence_tables.generation({"rows": rows}).splitlines()
  assert lines[-2] == ("| full | 1,000 (1.00x) | 1,000 (1.00x) | 2 to 4 |")
  assert lines[-1] == "| linear | 2,500 (2.50x) | 2,500 (2.50x) | 1 |"


def test_docs_have_the_tables_of_the_results():
  docs = (ROOT / "docs/sequences.md").read_text()
  found = json.loads((ROOT / sequence_tasks.RESULTS).read_text())
  generated = json.loads((ROOT / sequence_tables.GENERATION).read_text())
  assert sequence_tables.accuracies(found) in docs
  assert sequence_tables.language(found, generated) in docs
  assert sequence_tables.generation(generated) in docs
