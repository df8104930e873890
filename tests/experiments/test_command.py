"""What the commands share, without a process for each case."""

import pathlib

import pytest

from effarch.automation.trial import Trial
from experiments import command

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "--config=configs/digits.py"
# The first command of README.md.
README = [
  "--config=configs/survey/cifar10.py:w=0.25",
  "--config.data.path=~/cifar10",
  "--config.seed=1",
]


def workdir():
  return command.workdir(command.run_name())


@pytest.mark.parametrize(
  ("arguments", "folder"),
  [
    (README, "runs/survey/cifar10/w=0.25,seed=1"),
    ([DIGITS], "runs/digits/default"),
    (
      [DIGITS, "--config.training.epochs=3", "--config.model.dtype=bfloat16"],
      "runs/digits/epochs=3,dtype=bfloat16",
    ),
    (
      [DIGITS, "--config.export.precisions=('int8',)"],
      "runs/digits/precisions=-int8-,-",
    ),
    ([DIGITS, "--workdir=some/where"], "some/where"),
    ([DIGITS, "--workdir=~/where"], str(pathlib.Path.home() / "where")),
  ],
)
def test_a_run_lies_where_its_config_and_overrides_say(call, arguments, folder):
  assert call(workdir, *arguments) == pathlib.Path(folder)


def test_a_config_from_elsewhere_names_the_run_by_its_file(call, tmp_path):
  file = tmp_path / "mine.py"
  file.write_text("from configs.digits import get_config\n")
  found = call(workdir, f"--config={file}:w=0.5")
  assert found == pathlib.Path("runs/mine/w=0.5")


def test_a_command_that_needs_a_workdir_says_so(refused):
  assert "--workdir=FOLDER" in refused(command.workdir, DIGITS)


def test_flags_of_a_study_pass_on_all_but_its_own(call):
  study = [
    "--config.study.quality=validation_accuracy",
    "--config.study.grid.model.width_multiplier=(0.05,)",
  ]
  found = call(command.config_flags, README[0], *study, *README[1:])
  assert found == README


def test_another_name_drops_the_files_entries_and_no_override(call):
  chosen = ["--config.optimizer.name=sgd", "--config.optimizer.clip_norm=0.5"]
  optimizer = call(command.config, DIGITS, *chosen).optimizer.to_dict()
  assert set(optimizer) == {"name", "learning_rate", "clip_norm", "schedule"}
  assert (optimizer["name"], optimizer["clip_norm"]) == ("sgd", 0.5)


def test_an_override_that_the_new_name_does_not_know_is_refused(refused):
  line = refused(
    lambda: Trial(command.trial_config()),
    *(DIGITS, "--config.optimizer.name=sgd"),
    "--config.optimizer.weight_decay=0.1",
  )
  assert line.startswith("config.optimizer.weight_decay: unknown")


@pytest.mark.parametrize(
  ("error", "line"),
  [
    (FloatingPointError("loss is nan at step 3"), "loss is nan at step 3"),
    (
      KeyboardInterrupt(),
      "stopped; the same command goes on from the last checkpoint",
    ),
  ],
)
def test_what_stops_a_run_is_one_line(refused, error, line):
  def main():
    raise error

  assert refused(main, DIGITS) == line
