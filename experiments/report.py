"""Makes table, picture and page anew, of one study or of several together.

python -m experiments.report runs/digits
python -m experiments.report runs/digits 50KB 150us
python -m experiments.report runs/a runs/b --workdir=runs/both

Limits name the best artifact within them. With units as above they are of size
and latency; of any other footprint they are written `'macs<=10M'`, in quotes.
"""

from __future__ import annotations

import pathlib

from effarch.errors import UserError
from effarch.strategies.limits import is_limit, parse_limit
from effarch.strategies.report import report
from experiments import command


def main(argv: list[str]) -> None:
  limits = [parse_limit(text) for text in argv if is_limit(text)]
  folders = [
    pathlib.Path(text).expanduser() for text in argv if not is_limit(text)
  ]
  if not folders:
    raise UserError("name a folder: python -m experiments.report runs/digits")
  workdir = command.given_workdir()
  if workdir is None and len(folders) > 1:
    raise UserError("several folders: say --workdir=FOLDER of their report")
  report(folders, command.console(), workdir, limits)


if __name__ == "__main__":
  command.run(main)
