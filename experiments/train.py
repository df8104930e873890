"""Trains one config; started again, it goes on where it was.

python -m experiments.train --config=configs/survey/cifar10.py:w=0.25
"""

from __future__ import annotations

import math

from effarch.automation.trial import Trial
from effarch.infrastructure.training import RunFolder
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  config = command.trial_config()
  trial = Trial(config)
  workdir = command.workdir(command.run_name())
  folder = RunFolder.open(workdir, config, command.command_line())
  result = trial.train(folder)
  best = trial.loop.best
  bits = ""
  if trial.source.label_shape:
    bits = f" ({result['test/loss'] / math.log(2):.4f} bits a token)"
  print(
    f"{workdir}: best epoch {result['epoch']}, validation {best} "
    f"{result[f'validation/{best}']:.4f}, test {best} "
    f"{result[f'test/{best}']:.4f}{bits}, {result['params']:,} parameters, "
    f"{result['macs']:,} MACs, trained in {result['train_seconds']:.0f} s"
  )


if __name__ == "__main__":
  command.run(main)
