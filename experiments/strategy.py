"""Runs a strategy: prints its plan, then trains, ships, and tells what came.

python -m experiments.strategy --config=configs/strategies/shrink_digits.py
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from effarch.automation.trial import COMMANDS
from effarch.config import build
from effarch.errors import UserError
from effarch.infrastructure.export import time_artifacts
from effarch.infrastructure.training import RunFolder
from effarch.strategies import STRATEGIES
from effarch.strategies.lab import START, Lab
from effarch.strategies.report import report
from effarch.strategies.story import show_plan, show_story, tell_story
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  config = command.config().to_dict()
  if "strategy" not in config:
    raise UserError(
      "config.strategy: missing; experiments.train runs one trial"
    )
  strategy = build(STRATEGIES, config["strategy"], "config.strategy")
  workdir, console = command.workdir(command.run_name()), command.console()
  _refuse_another(workdir, config)
  folder = RunFolder.open(workdir, config, command.command_line())
  lab = Lab(
    {key: value for key, value in config.items() if key not in COMMANDS},
    workdir,
    given=strategy.start,
    seeds=strategy.seeds,
    budget=strategy.budget,
    command=command.train_command,
    tell=console.print,
  )
  strategy.check(lab.start)
  show_plan(strategy.plan(lab), lab, console)
  with folder.training():
    best = strategy.run(lab)
    # Those of decisions stem from as many measurements as there are steps.
    time_artifacts([RunFolder(f) for each in lab.tried for f in each.folders])
  story = tell_story(strategy, lab, best, command.command_line())
  report([workdir], console)
  show_story(story, console)


def _refuse_another(workdir: pathlib.Path, config: dict[str, Any]) -> None:
  """Refuses a folder in which another strategy has measured and decided."""
  record, own = RunFolder(workdir), json.loads(json.dumps(config))
  if (
    record.has(f"{START}/footprint.json") and record.read("config.json") != own
  ):
    raise UserError(
      f"workdir {workdir}: holds a strategy of another config; give another "
      "--workdir or remove the folder"
    )


if __name__ == "__main__":
  command.run(main)
