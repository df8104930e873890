"""The report of studies: terminal table, PNG, a page that works offline."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder
from effarch.strategies.choose import best_under
from effarch.strategies.frontier import objectives, relative_hypervolume
from effarch.strategies.limits import Limit
from effarch.strategies.marks import mark
from effarch.strategies.page import html
from effarch.strategies.picture import picture
from effarch.strategies.records import (
  FOOTPRINTS,
  QUALITIES,
  collect,
  label,
  model,
  write_tables,
)
from effarch.strategies.seeds import over_seeds

# More entries that vary are no columns; the model's name is one.
_COLUMNS = 5


def report(
  folders: Sequence[pathlib.Path],
  console: Console,
  workdir: pathlib.Path | None = None,
  limits: Sequence[Limit] = (),
) -> list[dict[str, Any]]:
  """Prints the table of studies and writes its files, from run folders alone.

  Runs that differ only in their seed are one row, see `over_seeds`. Written
  are `frontier.csv`, `frontier.json`, `frontier.png`, `report.html`.

  Args:
    folders: of studies, or any folders with runs in them.
    console: where the table goes.
    workdir: where files are written; without it, into the one folder.
    limits: if there are any, the best artifact within them is named, by
      validation accuracy.

  Returns:
    The rows: `frontier` says which no other dominates, `undecided` which none
    does with confidence, `knee` which is the frontier's.

  Raises:
    UserError: there is no artifact, or they have no footprint in common, or
      none is within the limits.
  """
  if workdir is None:
    [workdir] = folders
  runs = collect(*folders)
  quality, footprint = _columns(folders, runs, console)
  rows = over_seeds(runs)
  points = objectives(rows, [quality], footprint)
  marks = mark(rows, quality, footprint)
  for place, row in enumerate(rows):
    row["frontier"] = bool(marks.frontier[place])
    row["undecided"] = bool(marks.undecided[place])
    row["knee"] = place == marks.knee
  write_tables(workdir, rows)
  console.print(_table(rows, quality, footprint))
  console.print(
    f"{sum(row['frontier'] for row in rows)} of {len(rows)} artifacts are on "
    f"the frontier of {quality} against {' and '.join(footprint)}; they "
    f"dominate {relative_hypervolume(points):.1%} of the box between the "
    "worst and the best values."
  )
  record = RunFolder(workdir)
  record.write_bytes("frontier.png", picture(rows, quality, footprint))
  page = html(rows, quality, footprint[0], title=workdir.resolve().name)
  record.write_bytes("report.html", page.encode())
  written = f"{workdir / 'report.html'} and {workdir / 'frontier.png'}"
  console.print(f"Wrote {escape(written)}")
  if limits:
    console.print(escape(_best(rows, limits)))
  return rows


def _columns(folders, rows, console) -> tuple[str, tuple[str, ...]]:
  """Returns quality and footprints: the first study's, as far as measured."""
  records = [RunFolder(folder) for folder in folders]
  studies = [r.read("study.json") for r in records if r.has("study.json")]
  asked = [
    (
      study.get("quality", QUALITIES[0]),
      tuple(study.get("footprint", FOOTPRINTS[:2])),
    )
    for study in studies or [{}]
  ]
  quality, footprint = asked[0]
  if len(set(asked)) > 1:
    console.print("Studies differ in quality or footprint: the first's count")
  for name in [f for f in footprint if any(f not in row for row in rows)]:
    console.print(f"Not every artifact has {name}: it is left out")
    footprint = tuple(f for f in footprint if f != name)
  if len({row.get("latency_measured") for row in rows}) > 1:
    console.print("Latencies stem from several measurements: compare with care")
  if not footprint:
    places = " and ".join(map(str, folders))
    raise UserError(f"{places}: not all artifacts are measured; do that first")
  return quality, footprint


def _best(rows, limits) -> str:
  # A choice, so test data must not make it.
  best = best_under(rows, QUALITIES[1], limits)
  columns = dict.fromkeys((*QUALITIES, *(limit.column for limit in limits)))
  reached = ", ".join(f"{name} {_shown(best, name)}" for name in columns)
  return (
    f"Best by {QUALITIES[1]} with {' and '.join(map(str, limits))}: "
    f"{label(best)}, {best['run']}/{best['file']} ({reached})"
  )


def _table(rows, quality, footprint) -> Table:
  title = "Artifacts; ● on the frontier"
  if any(row["knee"] for row in rows):
    title += ", ◆ its knee"
  if any("seeds" in row for row in rows):
    title += ", ○ dominated, but not with 95 % confidence; ± over seeds"
  table = Table(title=title, title_justify="left")
  varied = dict.fromkeys(key for row in rows for key in row["config"])
  columns = dict.fromkeys((quality, *footprint, "macs", "params", "differs"))
  if any("seeds" in row for row in rows):
    columns["seeds"] = None
  table.add_column("")
  many = len(varied) > _COLUMNS

  def cells(row):
    if many:
      return [model(row)]
    return [str(row["config"].get(key, "")) for key in varied]

  for head in ["model"] if many else [key.split(".")[-1] for key in varied]:
    table.add_column(escape(head), overflow="fold")
  table.add_column("file")
  for name in columns:
    table.add_column(name, justify="right")
  for row in rows:
    table.add_row(
      _sign(row),
      *map(escape, cells(row)),
      row["kind"],
      *(_shown(row, name, name in (quality, *footprint)) for name in columns),
      style="" if row["frontier"] or row["undecided"] else "dim",
    )
  return table


def _sign(row) -> str:
  if row["frontier"]:
    return "◆" if row["knee"] else "●"
  return "○" if row["undecided"] else ""


def _shown(row, name: str, spread_too: bool = True) -> str:
  """Returns a number, and its spread over seeds if it has one."""
  value, spread = row[name], row.get("std", {}).get(name)
  if not spread or not spread_too:
    return f"{value:{_style(value)}}"
  # Both with the mean's decimals.
  return f"{value:{_style(value)}} ± {spread:{_style(float(value))}}"


def _style(value: int | float) -> str:
  if isinstance(value, int):
    return ","
  return ".4f" if abs(value) < 10 else ",.1f"
