"""The benchmark of token mixers runs, and its tables are right."""

import json
import pathlib
import re
import sys

import numpy as np
import pytest

from benchmarks import attention
from benchmarks.attention_tables import (
  GROUPS,
  crossover,
  exponent,
  forms,
  markdown,
  plot,
)
from benchmarks.mixers import CASES

ROOT = pathlib.Path(__file__).parents[2]


def rows(*times, lengths=(1024, 4096, 16384)):
  return [
    {"length": n, "seconds": t} for n, t in zip(lengths, times, strict=False)
  ]


def test_every_mixer_has_a_panel():
  names = [name for group in GROUPS.values() for name in group]
  assert sorted(names) == sorted(CASES)


def test_exponent_is_that_of_a_power():
  found = rows(*(3e-9 * n**1.5 for n in (1024, 4096, 16384)))
  # What is short is mostly what does not grow.
  assert exponent([{"length": 256, "seconds": 9.0}, *found]) == (
    pytest.approx(1.5)
  )
  assert exponent(found[:1]) is None
  assert exponent(rows(0, 0, 0)) is None


@pytest.mark.parametrize(
  ("times", "start"),
  [
    # Twice as slow at 1,024 and twice as fast at 4,096: the middle of both.
    ((2, 8, 16), 2048),
    ((0.5, 1, 2), 1024),
    ((2, 20, 512), None),
    # Once faster in between does not count.
    ((0.5, 32, 64), 4096 * 4 ** (1 / 3)),
    # Left out at the longest: as far as it goes.
    ((2, 8), 2048),
    ((), None),
  ],
)
def test_crossover(times, start):
  exact = rows(1, 16, 256)
  found = crossover(rows(*times), exact)
  assert found == (start if start is None else pytest.approx(start))


def test_it_runs(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(attention, "_SHORTEST", 16)
  monkeypatch.setattr(attention, "_ROUNDS", 1)
  monkeypatch.setattr(attention, "_FUNCTION_LENGTHS", (32,))
  json_file, png = tmp_path / "out.json", tmp_path / "out.png"
  names = ["full", "linear", "retnet", "fnet"]
  monkeypatch.setattr(
    sys,
    "argv",
    [
      *("attention", "--longest=64", f"--json={json_file}", f"--plot={png}"),
      *("--mixers", *names),
    ],
  )
  attention.main()
  assert "linear" in capsys.readouterr().out
  found = json.loads(json_file.read_text())
  assert forms(found["mixers"]) == [
    ("full", False),
    ("full", True),
    ("linear", False),
    ("retnet", True),
    ("fnet", False),
  ]
  assert len(found["mixers"]) == 5 * 2 * 2
  for row in found["mixers"]:
    assert 0 < row["seconds_low"] <= row["seconds"] <= row["seconds_high"]
    assert row["peak_bytes"] > 0
  # What is there is not run again; what is missing is.
  kept = [row for row in found["mixers"] if row["length"] < 64]
  json_file.write_text(json.dumps({**found, "mixers": kept}))
  attention.main()
  again = json.loads(json_file.read_text())
  assert again["mixers"][: len(kept)] == kept
  assert again["functions"] == found["functions"]
  runs = {row["length"]: row["run"] for row in again["mixers"]}
  assert runs == {16: 0, 64: 1} and len(again["runs"]) == 2
  functions = {row["function"] for row in found["functions"]}
  assert functions >= set(attention.FUNCTIONS)
  assert png.read_bytes().startswith(b"\x89PNG")


def test_what_is_too_long_or_too_large_is_left_out():
  before = {"seconds": 2.0, "peak_bytes": 10}
  assert attention._fits(before, "linear", 8, 40)
  assert not attention._fits(before, "linear", 7.9, 40)
  assert not attention._fits(before, "linear", 8, 39)
  assert not attention._fits(before, "full", 8, 1000)


def test_the_document_s_program_runs():
  text = (ROOT / "docs" / "attention.md").read_text()
  (program,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M)
  exec(program, names := {})
  np.testing.assert_allclose(names["y0"], names["y"][:, 0], atol=1e-5)
  assert names["state"]["key"].shape[1] == 17


def test_tables_are_the_run():
  found = json.loads((ROOT / "results" / "attention_cpu.json").read_text())
  assert markdown(found) in (ROOT / "docs" / "attention.md").read_text()
  assert {row["mixer"] for row in found["mixers"]} == set(CASES)
  assert plot(found)
