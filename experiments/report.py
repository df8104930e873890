"""Makes table, picture and page of a study anew, from its run folders.

python -m experiments.report runs/digits
"""

from __future__ import annotations

import pathlib

from effarch.errors import UserError
from effarch.strategies.report import report
from experiments import command


def main(argv: list[str]) -> None:
  if len(argv) != 1:
    raise UserError("name one folder: python -m experiments.report runs/digits")
  report(pathlib.Path(argv[0]).expanduser(), command.console())


if __name__ == "__main__":
  command.run(main)
