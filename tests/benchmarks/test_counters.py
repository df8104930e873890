"""effarch's counts are the truth, and the document shows the runs."""

import json
import pathlib
import sys

import pytest

from benchmarks import counters, known_costs

ROOT = pathlib.Path(__file__).parents[2]
PRODUCTS = ("effarch", "fvcore", "PyTorch")


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setattr(known_costs, "_SIZE", 32)
  monkeypatch.setattr(known_costs, "_LAYERS", 3)
  return {case.name: case for case in known_costs.small_programs()}


def ratios(row):
  """What is there of a row, divided by the truth."""
  counts = {name: found["flops"] for name, found in row["counts"].items()}
  return {n: c / row["flops"] for n, c in counts.items() if c is not None}


def test_small_programs_cost_what_they_should(small):
  rows = counters.rows_of(list(small.values()))
  found = {row["program"]: ratios(row) for row in rows}
  assert list(found) == list(small)
  assert {name: found[name]["effarch"] for name in small} == dict.fromkeys(
    small, 1
  )
  # What makes the benchmark worth its while.
  for name in ("scan", "while_loop", "scan in scan", "scan in vmap"):
    for counter in ("XLA lowered", "XLA compiled", "roofline"):
      assert found[f"products in {name}"][counter] < 0.5
  written = found["products, written out"]
  assert all(written[name] == 1 for name in PRODUCTS if name in written)
  assert "nnx.tabulate" not in written


@pytest.mark.parametrize(
  "case", known_costs.networks(), ids=lambda case: case.name
)
def test_networks_cost_what_they_should(case):
  assert counters._effarch(case)() == 2 * case.macs


def test_a_network_and_its_twin():
  case = known_costs.networks()[0]
  (row,) = counters.rows_of([case])
  found = ratios(row)
  assert set(found) == set(counters.counters())
  assert all(found[name] == 1 for name in PRODUCTS if name in found)
  # Before XLA optimizes.
  assert found["nnx.tabulate"] == pytest.approx(found["XLA lowered"], rel=0.01)
  for name in ("XLA lowered", "XLA compiled", "roofline"):
    assert found[name] == pytest.approx(0.91, abs=0.01)


def test_without_pytorch_its_columns_are_left_out(
  monkeypatch, capsys, small, tmp_path
):
  monkeypatch.setattr(counters, "torch", None)
  monkeypatch.setattr(counters, "fvcore", None)
  cases = [small["products in scan"], small["depthwise convolution"]]
  monkeypatch.setattr(counters, "small_programs", lambda: cases)
  monkeypatch.setattr(counters, "networks", list)
  file = tmp_path / "out.json"
  monkeypatch.setattr(sys, "argv", ["counters", f"--json={file}"])
  counters.main()
  written = json.loads(file.read_text())
  assert not {"torch", "fvcore"} & set(written["provenance"]["versions"])
  assert [row["program"] for row in written["rows"]] == [c.name for c in cases]
  for row in written["rows"]:
    assert not {"PyTorch", "fvcore"} & set(row["counts"])
    assert ratios(row)["effarch"] == 1
  assert "products in scan" in capsys.readouterr().out


def test_what_is_off_is_bold():
  flops = {"effarch": 99, "XLA lowered": 109, "roofline": 111, "fvcore": None}
  counts = {n: {"flops": f, "seconds": f and 0.5} for n, f in flops.items()}
  row = {"program": "p", "network": True, "flops": 100, "counts": counts}
  ratio, seconds = counters.markdown([row]).split("\n\n")
  assert ratio.endswith("| p | 0.0 | **0.99** | 1.09 | **1.11** | – |")
  assert seconds.endswith("| p | 0.0 | 0.50 | 0.50 | 0.50 | – |")


def test_tables_are_the_runs():
  rows = json.loads((ROOT / "results" / "counters_cpu.json").read_text())[
    "rows"
  ]
  text = (ROOT / "docs" / "counting.md").read_text()
  assert counters.markdown(rows) in text
  names = [
    c.name for c in (*known_costs.small_programs(), *known_costs.networks())
  ]
  assert [row["program"] for row in rows] == names
