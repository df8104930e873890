"""Rows and tables from run folders that were written by hand."""

import csv
import json

import pytest

from effarch.errors import UserError
from effarch.strategies.records import collect, label, write_tables
from effarch.strategies.seeds import over_seeds


def model(width):
  return {"model": {"name": "survey_cnn", "width_multiplier": width}}


def test_one_row_for_each_artifact_smallest_first(study, write_run):
  int8 = {"precision": "int8", "size_bytes": 1500}
  write_run("wide", model(1.0), [{"size_bytes": 3000}, int8])
  write_run("slim", model(0.5), [{"size_bytes": 1000}])
  found = [(r["run"], r["precision"], r["size_bytes"]) for r in collect(study)]
  assert found == [
    ("slim", "float32", 1000),
    ("wide", "int8", 1500),
    ("wide", "float32", 3000),
  ]


def test_row_holds_artifact_cost_curve_and_last_start(study, write_run):
  curve = [{"step": 5, "epoch": 1, "train/accuracy": 0.25}]
  write_run("only", None, [{"accuracy": 0.75}], curve, command="python x")
  [row] = collect(study)
  assert (row["accuracy"], row["latency_us"], row["differs"]) == (0.75, 7.5, 0)
  assert (row["params"], row["statistics"]) == (20, 4)
  assert (row["macs"], row["flops"]) == (300, 640)
  assert (row["epoch"], row["train_seconds"]) == (2, 1.5)
  assert row["curve"] == curve
  assert row["provenance"]["command"] == "python x"
  assert row["provenance"]["time"] == "day 2"  # Not the first start's


def test_line_that_a_killed_process_left_is_passed_over(study, write_run):
  folder = write_run("only", None, [{}])
  whole = len(collect(study)[0]["curve"])
  with open(folder.path / "metrics.jsonl", "a") as file:
    file.write('{"step": 30, "ep')
  assert len(collect(study)[0]["curve"]) == whole == 2


def test_config_holds_only_what_differs(study, write_run):
  write_run("a", {**model(0.5), "seed": 3}, [{}])
  write_run("b", {**model(1.0), "seed": 3}, [{}])
  configs = {row["run"]: row["config"] for row in collect(study)}
  assert configs == {
    "a": {"model.width_multiplier": 0.5},
    "b": {"model.width_multiplier": 1.0},
  }


def test_entry_that_one_run_lacks_differs(study, write_run):
  write_run("plain", {"techniques": []}, [{}])
  write_run("smooth", None, [{}])
  configs = {row["run"]: row["config"] for row in collect(study)}
  assert configs["plain"] == {"techniques": []}
  assert configs["smooth"] == {
    "techniques[0].name": "label_smoothing",
    "techniques[0].smoothing": 0.1,
  }


def test_runs_are_found_at_any_depth_and_named_by_it(study, write_run):
  for place in ("top", "group/one", "group/deep/er"):
    write_run(place, None, [{}])
  runs = sorted(row["run"] for row in collect(study))
  assert runs == ["group/deep/er", "group/one", "top"]
  assert [row["run"] for row in collect(study / "group" / "one")] == ["."]


def test_run_that_is_not_finished_gives_no_row(study, write_run):
  write_run("done", None, [{}])
  write_run("trained", None, [])
  (write_run("begun", None, [{}]).path / "result.json").unlink()
  assert [row["run"] for row in collect(study)] == ["done"]


def test_folder_without_runs_is_a_user_error(study, write_run):
  for folder in (study, study / "absent"):
    with pytest.raises(UserError, match="holds no run with artifacts"):
      collect(folder)
  write_run("trained", None, [])
  with pytest.raises(UserError, match="holds no run with artifacts"):
    collect(study)


def test_run_without_config_is_a_user_error(study, write_run):
  (write_run("only", None, [{}]).path / "config.json").unlink()
  with pytest.raises(UserError, match=r"only: holds no config\.json"):
    collect(study)


def test_rows_are_strict_json_whatever_was_measured(study, write_run):
  curve = [{"step": 1, "epoch": 1, "norm": float("nan"), "up": float("inf")}]
  write_run("only", None, [{"gap": -float("inf")}], curve)
  [row] = collect(study)
  json.dumps(row, allow_nan=False)
  assert row["curve"][0] == {
    "step": 1,
    "epoch": 1,
    "norm": "NaN",
    "up": "Infinity",
  }
  assert row["gap"] == "-Infinity"


def test_label_is_what_varies_and_the_kind_of_file():
  config = {"model.convolution": "separable", "model.width_multiplier": 0.5}
  row = {"run": "a", "kind": "int8", "config": config}
  assert label(row) == "separable 0.5 int8"
  assert label({**row, "config": {}}) == "a int8"


def test_tables_hold_the_same_rows(study, write_run):
  odd = 'a, "quoted"\nname'
  write_run("a", {"seed": odd}, [{"accuracy": 0.1 + 0.2}])
  write_run("b", {"seed": 7, **model(0.5)}, [{"size_bytes": 2000}])
  rows = collect(study)
  rows[0]["frontier"], rows[1]["frontier"] = True, False
  write_tables(study, rows)

  read = json.loads((study / "frontier.json").read_text())
  assert [row["run"] for row in read] == ["a", "b"]
  assert [row["frontier"] for row in read] == [True, False]
  assert [row["config"]["seed"] for row in read] == [odd, 7]
  widths = [row["config"]["model.width_multiplier"] for row in read]
  assert widths == [1.0, 0.5]
  assert read[0]["accuracy"] == 0.1 + 0.2
  assert read == rows

  with open(study / "frontier.csv", newline="") as file:
    table = list(csv.DictReader(file))
  nested = ("config", "curve", "provenance")
  assert table == [
    {k: str(v) for k, v in {**row, **row["config"]}.items() if k not in nested}
    for row in read
  ]


def test_table_leaves_empty_what_one_row_lacks(study, write_run):
  write_run("old", None, [{"latency_us": None}])
  write_run("new", None, [{"latency_us": 3.5, "size_bytes": 2000}])
  write_tables(study, collect(study))
  with open(study / "frontier.csv", newline="") as file:
    table = list(csv.DictReader(file))
  assert [row["latency_us"] for row in table] == ["", "3.5"]


def test_study_lists_its_own_runs(study, write_run):
  for name in ("a", "b", "stray"):
    write_run(name, {"seed": name}, [{}])
  assert {row["run"] for row in collect(study)} == {"a", "b", "stray"}
  (study / "study.json").write_text(json.dumps({"runs": ["a", "b"]}))
  assert {row["run"] for row in collect(study)} == {"a", "b"}


def test_several_folders_are_told_apart(study, write_run):
  write_run("a/one", {"seed": 0}, [{}])
  write_run("b/one", {"seed": 1}, [{}])
  write_run("b/deep/two", {"seed": 1}, [{"size_bytes": 500}])
  rows = collect(study / "a", study / "b")
  assert [row["run"] for row in rows] == ["b/deep/two", "a/one", "b/one"]
  # What differs between folders differs, though within each it does not.
  assert [row["config"] for row in rows] == [{"seed": s} for s in (1, 0, 1)]
  assert collect(study / "b", study / "a") == rows


def test_run_in_two_folders_counts_once(study, write_run):
  write_run("a/one", None, [{}])
  write_run("a/b/two", None, [{}])
  rows = collect(study / "a", study / "a" / "b", study / "a")
  assert sorted(row["run"] for row in rows) == ["b/two", "one"]


def test_every_folders_own_study_is_heeded(study, write_run):
  for name in ("a/x", "a/stray", "b/x", "b/stray"):
    write_run(name, {"seed": name}, [{}])
  for name in "ab":
    (study / name / "study.json").write_text(json.dumps({"runs": ["x"]}))
  rows = collect(study / "a", study / "b")
  assert {row["run"] for row in rows} == {"a/x", "b/x"}


def test_one_folder_of_several_without_runs_is_named(study, write_run):
  write_run("a/one", None, [{}])
  with pytest.raises(UserError, match=r"study/c: holds no run with artifacts"):
    collect(study / "a", study / "c")


def test_tables_hold_spreads(study, write_run):
  for seed, accuracy in enumerate((0.5, 0.75)):
    write_run(f"run{seed}", {"seed": seed}, [{"accuracy": accuracy}])
  [row] = over_seeds(collect(study))
  write_tables(study, [row])
  with open(study / "frontier.csv", newline="") as file:
    [line] = csv.DictReader(file)
  assert line["accuracy"] == "0.625"
  assert float(line["accuracy_std"]) == pytest.approx(0.125 * 2**0.5)
  assert (line["seeds"], line["size_bytes"]) == ("2", "1000")
  assert not {"members", "std", "config", "seed"} & set(line)
  [read] = json.loads((study / "frontier.json").read_text())
  assert read == row
  assert [member["run"] for member in read["members"]] == ["run0", "run1"]
