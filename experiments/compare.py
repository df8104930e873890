"""Compares techniques: trains every arm from every seed, then judges.

python -m experiments.compare --config=configs/learning/compare.py:digits
"""

from __future__ import annotations

from effarch.strategies import compare, verdict
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  workdir = command.workdir(command.run_name())
  record = compare.run(
    command.config().to_dict(),
    workdir,
    command.train_command,
    command.command_line(),
  )
  verdict.show(record, command.console())


if __name__ == "__main__":
  command.run(main)
