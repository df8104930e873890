"""The picture of a study: terminal table, PNG, a page that works offline."""

from __future__ import annotations

import importlib.resources
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from plotly.offline import get_plotlyjs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder
from effarch.strategies.frontier import (
  non_dominated,
  objectives,
  relative_hypervolume,
)
from effarch.strategies.records import (
  FOOTPRINTS,
  QUALITIES,
  collect,
  label,
  write_tables,
)

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

_TITLES = {
  "accuracy": "test accuracy of the file",
  "validation_accuracy": "validation accuracy of the file",
  "size_bytes": "size (bytes)",
  "latency_us": "latency (µs, median)",
  "macs": "multiply-accumulates",
  "params": "parameters",
  "train_seconds": "training (s)",
}


def report(folder: pathlib.Path, console: Console) -> list[dict[str, Any]]:
  """Prints the table of a study and writes its files, from run folders alone.

  Written into `folder`: `frontier.csv`, `frontier.json`, `frontier.png`,
  `report.html`.

  Args:
    folder: of a study, or any folder with runs in it.
    console: where the table goes.

  Returns:
    The rows; `frontier` says which no other dominates.

  Raises:
    UserError: there is no artifact, or they have no footprint in common.
  """
  rows = collect(folder)
  record = RunFolder(folder)
  study = record.read("study.json") if record.has("study.json") else {}
  quality = study.get("quality", QUALITIES[0])
  footprint = tuple(study.get("footprint", FOOTPRINTS[:2]))
  for name in [f for f in footprint if any(f not in row for row in rows)]:
    console.print(f"Not every artifact has {name}: it is left out")
    footprint = tuple(f for f in footprint if f != name)
  if len({row.get("latency_measured") for row in rows}) > 1:
    console.print("Latencies stem from several measurements: compare with care")
  if not footprint:
    raise UserError(f"{folder}: not all artifacts are measured; do that first")
  points = objectives(rows, [quality], footprint)
  for row, kept in zip(rows, non_dominated(points), strict=True):
    row["frontier"] = bool(kept)
  write_tables(folder, rows)
  console.print(_table(rows, quality, footprint))
  console.print(
    f"{sum(row['frontier'] for row in rows)} of {len(rows)} artifacts are on "
    f"the frontier of {quality} against {' and '.join(footprint)}; they "
    f"dominate {relative_hypervolume(points):.1%} of the box between the "
    "worst and the best values."
  )
  record.write_bytes("frontier.png", _png(rows, quality, footprint))
  page = html(rows, quality, footprint[0], title=folder.resolve().name)
  record.write_bytes("report.html", page.encode())
  written = f"{folder / 'report.html'} and {folder / 'frontier.png'}"
  console.print(f"Wrote {escape(written)}")
  return rows


def _table(rows, quality, footprint) -> Table:
  table = Table(title="Artifacts; ● on the frontier", title_justify="left")
  varied = dict.fromkeys(key for row in rows for key in row["config"])
  columns = dict.fromkeys((quality, *footprint, "macs", "params", "differs"))
  table.add_column("")
  for key in varied:
    table.add_column(escape(key.split(".")[-1]), overflow="fold")
  table.add_column("file")
  for name in columns:
    table.add_column(name, justify="right")
  for row in rows:
    table.add_row(
      "●" if row["frontier"] else "",
      *(escape(str(row["config"].get(key, ""))) for key in varied),
      row["kind"],
      *(_number(row[name]) for name in columns),
      style="" if row["frontier"] else "dim",
    )
  return table


def _number(value: int | float) -> str:
  if isinstance(value, int):
    return f"{value:,}"
  return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _png(rows, quality, footprint) -> bytes:
  """Returns one panel for each footprint, each with its own frontier."""
  figure, panels = plt.subplots(
    1,
    len(footprint),
    figsize=(5.2 * len(footprint), 4),
    sharey=True,
    squeeze=False,
    layout="constrained",
  )
  styles = {
    kind: {"color": f"C{place}", "marker": "os^Dv"[place % 5]}
    for place, kind in enumerate(sorted({row["kind"] for row in rows}))
  }
  for panel, name in zip(panels[0], footprint, strict=True):
    kept = non_dominated(objectives(rows, [quality], [name]))
    front = sorted(
      (row[name], row[quality])
      for row, keep in zip(rows, kept, strict=True)
      if keep
    )
    panel.step(*zip(*front, strict=True), where="post", color="0.7", zorder=0)
    for kind, style in styles.items():
      panel.scatter([], [], label=kind, **style)
    for row, keep in zip(rows, kept, strict=True):
      point, style = (row[name], row[quality]), styles[row["kind"]]
      panel.scatter(*point, alpha=1.0 if keep else 0.25, **style)
      if keep:
        panel.annotate(
          " ".join(str(value) for value in row["config"].values()),
          point,
          (6, -9),
          textcoords="offset points",
          size=7,
          parse_math=False,  # A dollar sign in a config is no formula.
        )
    panel.set_xscale("log")
    panel.set_xlabel(_TITLES[name])
    panel.grid(alpha=0.3)
    ticks = LogLocator(subs=(1, 2, 3, 5, 7))
    panel.xaxis.set_major_locator(ticks)
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.margins(x=0.12)
  panels[0][0].set_ylabel(_TITLES[quality])
  panels[0][-1].legend(loc="lower right")
  file = io.BytesIO()
  figure.savefig(file, dpi=140, format="png")
  plt.close(figure)
  return file.getvalue()


def html(
  rows: Sequence[dict[str, Any]], quality: str, footprint: str, title: str
) -> str:
  """Returns one page with everything in it, plotting library included.

  Args:
    rows: artifacts, with `frontier`.
    quality: the vertical axis to start with.
    footprint: the horizontal axis to start with.
    title: the page's.
  """
  axes = {
    "quality": [n for n in QUALITIES if all(n in row for row in rows)],
    "footprint": [n for n in FOOTPRINTS if all(n in row for row in rows)],
  }
  # Which points are on the frontier of which pair, so the page computes none.
  frontiers = {
    f"{up}|{across}": np.flatnonzero(
      non_dominated(objectives(rows, [up], [across]))
    ).tolist()
    for up in axes["quality"]
    for across in axes["footprint"]
  }
  data = {
    "title": title,
    "rows": [{**row, "label": label(row)} for row in rows],
    "axes": axes,
    "start": {"quality": quality, "footprint": footprint},
    "titles": _TITLES,
    "frontiers": frontiers,
  }
  # Within a script element only "</" and "<!--" could end the data early.
  embedded = json.dumps(data).replace("<", "\\u003c")
  template = importlib.resources.files("effarch.strategies") / "report.html"
  return (
    template.read_text()
    .replace("/*PLOTLY*/", get_plotlyjs())
    .replace("/*DATA*/", embedded)
  )
