"""The commands as a user meets them, in processes of their own."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "--config=configs/digits.py"
SHORT = [
  "--config.training.epochs=2",
  "--config.training.evaluate_every=1",
  "--config.model.width_multiplier=0.05",
]


def run(name, *arguments):
  return subprocess.run(
    [sys.executable, "-m", f"experiments.{name}", *arguments],
    cwd=ROOT,
    env={**os.environ, "COLUMNS": "200"},
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--config=FILE is missing"),
    (["--config=configs/none.py"], "configs/none.py"),
    ([DIGITS + ":w=x"], "variant 'w': 'x' is no float"),
    (
      [DIGITS, "--config.model.widht_multiplier=1"],
      "config.model.widht_multiplier: unknown; did you mean "
      "'model.width_multiplier'?",
    ),
    ([DIGITS, "--config.seed=1.5"], "config.seed: '1.5' is of a wrong type"),
    (
      [DIGITS, "--config.model.width_multiplier=0"],
      "config.model.width_multiplier: 0.0 is not in (0, 8]",
    ),
    ([DIGITS, "--config.seed", "1"], "write --config.seed=VALUE"),
    ([DIGITS, "--config.seed=1", "--wrkdir=x"], "flag 'wrkdir'"),
    (
      [DIGITS, "--config.optimizer.name=sgd", "--config.optimizer.momentu=1"],
      "config.optimizer.momentu: unknown; did you mean 'optimizer.momentum'?",
    ),
  ],
)
def test_a_mistake_ends_in_one_line(arguments, message):
  done = run("train", *arguments)
  assert done.returncode == 2
  assert done.stderr.startswith("error: ")
  assert len(done.stderr.strip().splitlines()) == 1, done.stderr
  assert message in done.stderr


def test_train_export_report(tmp_path):
  folder = tmp_path / "study" / "one"
  done = run("train", DIGITS, *SHORT, f"--workdir={folder}")
  assert done.returncode == 0, done.stderr
  assert "test accuracy" in done.stdout
  again = run("train", DIGITS, *SHORT, f"--workdir={folder}")
  assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]

  other = run("train", DIGITS, f"--workdir={folder}")
  assert other.returncode == 2
  assert "holds a run with config.model.width_multiplier=0.05" in other.stderr

  done = run("export", f"--workdir={folder}")
  assert done.returncode == 0, done.stderr
  for precision in ("float32", "int8"):
    row = json.loads(
      (folder / f"artifacts/{precision}.tflite.json").read_text()
    )
    file = folder / row["file"]
    assert row["size_bytes"] == file.stat().st_size
    assert row["latency_us"] > 0
    if precision == "float32":
      assert row["differs"] == 0

  done = run("report", str(tmp_path / "study"))
  assert done.returncode == 0, done.stderr
  for name in ("report.html", "frontier.png", "frontier.csv", "frontier.json"):
    assert (tmp_path / "study" / name).stat().st_size > 0

  done = run("report", str(tmp_path / "study"), "1GB", "macs<=1G")
  assert done.returncode == 0, done.stderr
  assert (
    "Best by validation_accuracy with size_bytes <= 1,000,000" in done.stdout
  )
  done = run("report", str(tmp_path / "study"), "10 B")
  assert done.returncode == 2
  assert "no artifact has size_bytes <= 10; nearest is" in done.stderr

  done = run("report", str(folder), str(tmp_path / "study"))
  assert done.returncode == 2
  assert "say --workdir=FOLDER" in done.stderr
  both = tmp_path / "both"
  done = run("report", str(folder), str(folder.parent), f"--workdir={both}")
  assert done.returncode == 0, done.stderr
  assert len(json.loads((both / "frontier.json").read_text())) == 2


def test_another_optimizer_and_schedule_by_name(tmp_path):
  done = run(
    "train",
    *(DIGITS, *SHORT, f"--workdir={tmp_path}"),
    *("--config.optimizer.name=sgd", "--config.optimizer.momentum=0.9"),
    "--config.optimizer.schedule.name=cosine",
  )
  assert done.returncode == 0, done.stderr
  optimizer = json.loads((tmp_path / "config.json").read_text())["optimizer"]
  assert optimizer == {
    "name": "sgd",
    "momentum": 0.9,
    "learning_rate": 5e-3,
    "clip_norm": 0.0,
    "schedule": {"name": "cosine"},
  }


def test_measure_tells_the_surveys_parameters_and_sweeps(tmp_path):
  done = run(
    "measure",
    "--config=configs/survey/cifar10.py:w=0.05",
    "--config.measure.batch_sizes=(1,3)",
    f"--workdir={tmp_path}",
  )
  assert done.returncode == 0, done.stderr
  assert "14,549" in done.stdout
  assert "of the ceilings" in done.stdout
  rows = json.loads((tmp_path / "sweep.json").read_text())["rows"]
  assert [row["batch_size"] for row in rows] == [1, 3]
  assert rows[1]["macs"] == 3 * rows[0]["macs"]
  cost = json.loads((tmp_path / "cost.json").read_text())
  assert cost["macs"] == rows[0]["macs"]
  assert "experiments.measure" in cost["provenance"]["command"]
  with (tmp_path / "cost.csv").open() as file:
    assert len(list(csv.reader(file))) == 1 + len(cost["modules"])
  assert (tmp_path / "sweep.png").stat().st_size > 10_000


def test_pareto_runs_a_grid_and_takes_it_up_again(tmp_path):
  arguments = [
    *(DIGITS, "--config.training.epochs=1"),
    "--config.study.grid.model.width_multiplier=(0.05,)",
    f"--workdir={tmp_path}",
  ]
  done = run("pareto", *arguments)
  assert done.returncode == 0, done.stderr
  # What lies in the folder besides is not part of the study.
  stray = tmp_path / "stray"
  (stray / "artifacts").mkdir(parents=True)
  (stray / "result.json").write_text("{}")
  rows = json.loads((tmp_path / "frontier.json").read_text())
  assert len(rows) == 4
  assert len({row["latency_measured"] for row in rows}) == 1
  assert any(row["frontier"] for row in rows)
  command = rows[0]["provenance"]["command"]
  assert "experiments.train" in command
  assert "--config.model.width_multiplier=0.05" in command
  again = run("pareto", *arguments)
  assert again.returncode == 0, again.stderr
  assert json.loads((tmp_path / "frontier.json").read_text()) == rows


def test_export_and_report_say_what_is_missing(tmp_path):
  for done in (
    run("export"),
    run("export", f"--workdir={tmp_path}"),
    run("report"),
    run("report", str(tmp_path)),
    run("report", str(tmp_path), "50 KB", "macs<=5ms"),
  ):
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
