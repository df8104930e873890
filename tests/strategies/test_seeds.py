"""Seeds as one point: by hand, and by NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.strategies.seeds import over_seeds, samples


def row(run, accuracy=0.5, kind="int8", size_bytes=1000, **config):
  return {
    "run": run,
    "kind": kind,
    "config": config,
    "accuracy": accuracy,
    "size_bytes": size_bytes,
    "curve": [run],
    "settled": True,
  }


def groups(rows):
  return [[m["run"] for m in p.get("members", [p])] for p in over_seeds(rows)]


def test_mean_spread_and_number_of_each_column():
  rows = [row(f"r{s}", a, seed=s, w=1) for s, a in enumerate((0.5, 0.75, 1.0))]
  rows[1]["size_bytes"] = 1300
  [point] = over_seeds(rows)
  assert (point["seeds"], point["accuracy"]) == (3, 0.75)
  assert point["size_bytes"] == 1100
  assert point["std"] == pytest.approx(
    {"accuracy": 0.25, "size_bytes": 30000**0.5}
  )
  # What is no number is the first's.
  assert (point["run"], point["curve"], point["settled"]) == (
    "r0",
    ["r0"],
    True,
  )
  assert point["config"] == {"w": 1}
  assert point["members"] == rows


def test_only_what_differs_in_nothing_else_is_one():
  rows = [
    row("a", seed=0, w=1),
    row("b", seed=1, w=1),
    row("c", seed=1, w=2),
    row("d", seed=0, w=1, kind="float32"),
  ]
  assert groups(rows) == [["a", "b"], ["c"], ["d"]]
  single = over_seeds(rows)[1]
  assert (single["seeds"], single["std"], single["config"]) == (1, {}, {"w": 2})


def test_rows_without_seeds_come_back_as_they_were():
  rows = [row("a", w=1), row("b", w=2), row("c", seed=3, w=3)]
  assert over_seeds(rows) == rows
  assert over_seeds([]) == []


def test_same_seed_again_is_no_further_sample():
  assert groups([row("a"), row("b")]) == [["a"], ["b"]]
  rows = [
    row(name, seed=s) for name, s in zip("abcd", (0, 0, 1, 1), strict=True)
  ]
  assert groups(rows) == [["a", "c"], ["b", "d"]]
  # A number and a text are two seeds.
  assert groups([row("a", seed=1), row("b", seed="1")]) == [["a", "b"]]


def test_column_that_one_seed_lacks_is_left_out():
  rows = [row("a", seed=0), row("b", seed=1)]
  rows[0]["latency_us"] = 5.0
  [point] = over_seeds(rows)
  assert "latency_us" not in point
  assert "latency_us" not in point["std"]


def test_smallest_file_comes_first():
  rows = [
    row("a", size_bytes=10, seed=0, w=1),
    row("b", size_bytes=20, w=2, seed=0),
    row("c", size_bytes=50, w=1, seed=1),
  ]
  assert [point["size_bytes"] for point in over_seeds(rows)] == [20, 30]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_moments_are_numpys(values):
  [point] = over_seeds([row(str(s), v, seed=s) for s, v in enumerate(values)])
  assert point["accuracy"] == pytest.approx(np.mean(values))
  assert point["std"]["accuracy"] == pytest.approx(np.std(values, ddof=1))
  found = samples(point, ["accuracy"], ["size_bytes"])
  np.testing.assert_array_equal(found[:, 0], values)
  np.testing.assert_array_equal(found[:, 1], -1000)


def test_a_row_by_itself_is_one_sample():
  found = samples(row("a", 0.25), ["accuracy"], ["size_bytes"])
  assert found.tolist() == [[0.25, -1000]]


def test_a_seeds_own_start_and_an_ensembles_seeds_are_no_difference():
  rows = [
    {
      "run": f"a/seed={seed}",
      "kind": "int8",
      "size_bytes": 10,
      "accuracy": 0.5 + seed / 10,
      "config": {
        "seed": seed,
        "techniques[0].folder": f"runs/start/seed={seed}",
        "techniques[1].teacher": ["runs/start/seed=0", "runs/start/seed=1"],
      },
    }
    for seed in (0, 1)
  ]
  (point,) = over_seeds(rows)
  assert (point["seeds"], point["accuracy"]) == (2, 0.55)
  rows[1]["config"]["techniques[1].teacher"] = ["runs/other"]
  assert over_seeds(rows) == rows
