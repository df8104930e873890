"""The command that runs strategies, in this process, with real trainings."""

import json
import shlex

import pytest

from effarch.automation.footprint import footprints
from effarch.automation.trial import Trial
from effarch.infrastructure.export import read_artifacts
from effarch.infrastructure.training import RunFolder
from experiments import command, strategy

pytestmark = pytest.mark.usefixtures("quick_compilation")

ARGUMENTS = [
  "--config=configs/strategies/shrink_digits.py:epochs=2,w=0.2",
  "--config.strategy.limits=('size_bytes<=0.6x',)",
  "--config.strategy.shrink={'small': {'model': {'width_multiplier': 0.05}}}",
  "--config.strategy.improve={'distil': {'techniques': ({'name': 'distill', "
  "'teacher': 'start'},)}}",
  "--config.strategy.seeds=(0,)",
]


def test_a_strategy_is_planned_run_and_told(call, tmp_path, capsys):
  arguments = [*ARGUMENTS, f"--workdir={tmp_path}"]
  call(lambda: strategy.main([]), *arguments)
  out = capsys.readouterr().out
  assert out.index("Plan") < out.index("epoch 1/2") < out.index("Steps")
  story = json.loads((tmp_path / "strategy.json").read_text())
  names = [step["name"] for step in story["steps"]]
  assert names[:3] == ["start", "small", "small+distil"]
  assert names[3].endswith("+int8_trained")
  assert story["best"] in names[1:]
  assert (tmp_path / "report.html").exists()

  # What was said of files before training holds for those that ship.
  record = RunFolder(tmp_path / "small")
  for said, shipped in zip(
    sorted(record.read("footprint.json"), key=lambda row: row["precision"]),
    read_artifacts(RunFolder(tmp_path / "small" / "seed=0")),
    strict=True,
  ):
    assert said["precision"] == shipped["precision"]
    assert said["size_bytes"] == shipped["size_bytes"]

  # What a run's record says to type is that run.
  for name in names:
    folder = RunFolder(tmp_path / name / "seed=0")
    typed = folder.read_lines("provenance.jsonl")[-1]["command"]
    found = call(command.trial_config, *shlex.split(typed)[3:])
    assert json.loads(json.dumps(found)) == folder.read("config.json")


def test_the_same_config_trains_the_start(call):
  config = call(command.trial_config, *ARGUMENTS)
  assert "strategy" not in config
  (row, _) = footprints(Trial(config))
  assert row["latency_us"] > 0


@pytest.mark.parametrize(
  ("argument", "line"),
  [
    (
      "--config.strategy.name=shrink_and_improv",
      "config.strategy.name: 'shrink_and_improv' is unknown; did you mean",
    ),
    ("--config.strategy.trie=2", "config.strategy.trie: unknown; did you mean"),
    (
      "--config.strategy.tries=0",
      "config.strategy.tries: 0 is not in [1, inf)",
    ),
  ],
)
def test_mistakes_end_in_one_line(refused, argument, line):
  assert line in refused(lambda: strategy.main([]), ARGUMENTS[0], argument)


def test_another_strategy_in_its_place_is_refused(refused, tmp_path):
  RunFolder.open(tmp_path, {"strategy": {"name": "another"}})
  RunFolder(tmp_path / "start").write("footprint.json", [])
  arguments = [*ARGUMENTS, f"--workdir={tmp_path}"]
  assert refused(lambda: strategy.main([]), *arguments) == (
    f"workdir {tmp_path}: holds a strategy of another config; give another "
    "--workdir or remove the folder"
  )
