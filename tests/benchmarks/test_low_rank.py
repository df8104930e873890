"""Benchmarks of structured layers run, shortened; no time is asserted."""

import json
import pathlib
import sys

import pytest

from benchmarks import low_rank, low_rank_quality

ROOT = pathlib.Path(__file__).parents[2]


def test_costs_and_times(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(low_rank, "ROUNDS", 1)
  file = tmp_path / "out.json"
  words = ["x", f"--json={file}", "--sizes", "32", "64", "--batch", "2"]
  words += ["--structures", "low_rank", "monarch"]
  monkeypatch.setattr(sys, "argv", words)
  low_rank.main()
  rows = json.loads(file.read_text())["rows"]
  assert [row["size"] for row in rows] == [32] * 3 + [64] * 3
  for row in rows:
    assert row["forward_us"] > 0
    assert row["step_us"] > 0
  dense, *others = rows[3:]
  assert dense["params"] == 64 * 64 + 64
  for row in others:
    assert row["params"] == 64 * 64 // 4 + 64
    assert row["macs"] == dense["macs"] / 4
  first = capsys.readouterr().out
  monkeypatch.setattr(sys, "argv", ["x", f"--table={file}"])
  low_rank.main()
  assert capsys.readouterr().out == first
  assert "| monarch | 0.25x |" in first


@pytest.mark.parametrize(
  ("ratios", "size"),
  [
    ({1: 0.9, 2: 1.1, 4: 1.2}, "2"),
    ({1: 1.1, 2: 0.9, 4: 1.2}, "4"),
    ({1: 1.1, 2: 1.1, 1024: 0.9}, "never"),
    ({1024: 2.0}, "1,024"),
  ],
)
def test_the_crossover_is_where_it_stays_faster(ratios, size):
  assert low_rank.crossover(ratios) == size


def test_a_table_tells_where_time_does_not_fall():
  rows = [
    {
      "structure": name,
      "size": 8,
      "params": params,
      "macs": macs,
      "forward_us": forward,
      "step_us": step,
      "step_bytes": 2**20,
    }
    for name, params, macs, forward, step in (
      ("dense", 64, 64, 10, 30),
      ("fast", 16, 16, 5, 15),
      ("slow", 16, 16, 20, 15),
      ("slower", 16, 16, 20, 35),
      ("larger", 16, 128, 20, 35),
    )
  ]
  _, _, dense, fast, slow, slower, larger = low_rank.costs(rows, 8).split("\n")
  assert "no faster" not in dense + fast + larger
  assert slow.endswith("fewer MACs, no faster forward |")
  assert slower.endswith("fewer MACs, no faster forward or step |")


def test_quality_is_trained_once_and_drawn(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(low_rank_quality, "RATIOS", (0.25,))
  monkeypatch.setattr(low_rank_quality, "SEEDS", (0, 1))
  out, picture = tmp_path / "out.json", tmp_path / "plot.png"
  words = ["x", f"--workdir={tmp_path}/runs", f"--json={out}"]
  words += ["--structures", "dense", "low_rank", "--variant=,epochs=1"]
  monkeypatch.setattr(sys, "argv", [*words, f"--plot={picture}"])
  low_rank_quality.main()
  found = json.loads(out.read_text())
  assert [model["structure"] for model in found["models"]] == [
    "dense",
    "low_rank",
  ]
  dense, smaller = found["models"]
  blocks = 12 * 128 * 128
  assert dense["params"] - smaller["params"] == blocks * 3 // 4
  assert [run["seed"] for run in found["runs"]] == [0, 1, 0, 1]
  assert picture.stat().st_size > 10_000
  assert "± " in capsys.readouterr().out
  with monkeypatch.context() as patch:
    patch.delattr("benchmarks.runs.Trial.train")
    low_rank_quality.main()
  assert json.loads(out.read_text()) == found


def test_docs_have_the_tables_of_the_results():
  docs = (ROOT / "docs/low_rank.md").read_text()
  rows = json.loads((ROOT / "results/low_rank_cpu.json").read_text())["rows"]
  for kind in ("forward", "step"):
    assert low_rank.speeds(rows, kind) in docs
  assert low_rank.costs(rows, 4096) in docs
