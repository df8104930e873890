"""Runs a study: trains, ships and measures its grid, then reports.

python -m experiments.pareto --config=configs/digits.py
"""

from __future__ import annotations

import pathlib
import shlex
from typing import Any

from effarch.strategies import study
from effarch.strategies.report import report
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  workdir = command.workdir("")

  def trial_command(entries: dict[str, Any], folder: pathlib.Path) -> str:
    return shlex.join(
      [
        *("python", "-m", "experiments.train"),
        *command.config_flags(),
        *(f"--config.{key}={value}" for key, value in entries.items()),
        f"--workdir={folder}",
      ]
    )

  study.run(command.config().to_dict(), workdir, trial_command)
  report([workdir], command.console())


if __name__ == "__main__":
  command.run(main)
