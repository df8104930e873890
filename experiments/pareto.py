"""Runs a study: trains, ships and measures its grid, then reports.

python -m experiments.pareto --config=configs/digits.py
"""

from __future__ import annotations

from effarch.strategies import study
from effarch.strategies.report import report
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  workdir = command.workdir("")
  study.run(command.config().to_dict(), workdir, command.train_command)
  report([workdir], command.console())


if __name__ == "__main__":
  command.run(main)
