"""The command that compares, in this process, with real trainings."""

import json
import shlex

import pytest

from experiments import command, compare

pytestmark = pytest.mark.usefixtures("quick_compilation")

ARGUMENTS = [
  "--config=configs/learning/compare.py:digits,epochs=2",
  "--config.model.width_multiplier=0.05",
  "--config.compare.teachers.wide.model.width_multiplier=0.1",
  "--config.compare.arms={'distill': {'name': 'distill', 'teacher': 'wide'}}",
  "--config.compare.seeds=(0, 3)",
]


def test_arms_are_trained_judged_and_repeatable(call, tmp_path, capsys):
  arguments = [*ARGUMENTS, f"--workdir={tmp_path}"]
  call(lambda: compare.main([]), *arguments)
  assert "At equal epochs" in capsys.readouterr().out
  record = json.loads((tmp_path / "comparison.json").read_text())
  full = [run for run in record["runs"] if "equal epochs" in run["budgets"]]
  assert [(run["arm"], run["seed"]) for run in full] == [
    *(("plain", 0), ("distill", 0), ("plain", 3), ("distill", 3))
  ]
  for row in record["verdicts"]:
    assert (row.get("verdict") is None) == (row["arm"] == "plain")
  assert "experiments.compare" not in full[0]["provenance"]["command"]
  # Killed before it was judged, it trains nothing again.
  (tmp_path / "comparison.json").unlink()
  call(lambda: compare.main([]), *arguments)
  again = json.loads((tmp_path / "comparison.json").read_text())
  assert again["runs"] == record["runs"]
  # What a run's record says to type is that run.
  for run in (*record["runs"], *record["teachers"]):
    recorded = json.loads((tmp_path / run["run"] / "config.json").read_text())
    typed = shlex.split(run["provenance"]["command"])[3:]
    assert json.loads(json.dumps(call(command.trial_config, *typed))) == (
      recorded
    )


def test_the_same_config_trains_the_plain_arm(call):
  config = call(command.trial_config, *ARGUMENTS)
  assert "compare" not in config
  assert config["techniques"] == ()
  assert call(command.config_flags, *ARGUMENTS) == ARGUMENTS[:2]


@pytest.mark.parametrize(
  ("argument", "line"),
  [
    (
      "--config.compare.arms.distill.alhpa=0.1",
      "config.compare.arms.distill.alhpa: unknown; did you mean",
    ),
    ("--config.compare.seed=0", "did you mean 'compare.seeds'?"),
    ("--config.compare.seeds=()", "config.compare.seeds: names no seed"),
  ],
)
def test_a_mistake_is_one_line(refused, argument, line):
  assert line in refused(lambda: compare.main([]), ARGUMENTS[0], argument)
