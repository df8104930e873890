"""The picture of a report: quality against each footprint."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

from effarch.strategies.marks import Marks, mark
from effarch.strategies.records import model

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

TITLES = {
  "accuracy": "test accuracy of the file",
  "validation_accuracy": "validation accuracy of the file",
  "size_bytes": "size (bytes)",
  "latency_us": "latency (µs, median)",
  "macs": "multiply-accumulates",
  "params": "parameters",
  "train_seconds": "training (s)",
}

_RING: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.2", "s": 130}


def picture(
  rows: Sequence[Mapping[str, Any]], quality: str, footprint: Sequence[str]
) -> bytes:
  """Returns a PNG: a panel for each footprint, each with its own frontier.

  Bars are the seeds' standard deviations; a ring is around the knee.
  """
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
  marks = [mark(rows, quality, [name]) for name in footprint]
  if any(found.knee is not None for found in marks):
    panels[0][-1].scatter([], [], label="knee", **_RING)
  for panel, name, found in zip(panels[0], footprint, marks, strict=True):
    _draw(panel, rows, quality, name, found, styles)
    for kind, style in styles.items():
      panel.scatter([], [], label=kind, **style)
    panel.set_xscale("log")
    panel.set_xlabel(TITLES[name])
    panel.grid(alpha=0.3)
    ticks = LogLocator(subs=(1, 2, 3, 5, 7))
    panel.xaxis.set_major_locator(ticks)
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.margins(x=0.12)
  panels[0][0].set_ylabel(TITLES[quality])
  panels[0][-1].legend(loc="lower right")
  file = io.BytesIO()
  figure.savefig(file, dpi=140, format="png")
  plt.close(figure)
  return file.getvalue()


def _draw(panel, rows, quality, name, marks: Marks, styles) -> None:
  points = [(row[name], row[quality]) for row in rows]
  front = sorted(points[place] for place in marks.frontier.nonzero()[0])
  panel.step(*zip(*front, strict=True), where="post", color="0.7", zorder=0)
  for place, (row, point) in enumerate(zip(rows, points, strict=True)):
    kept, style = marks.frontier[place], styles[row["kind"]]
    alpha = 1.0 if kept else 0.55 if marks.undecided[place] else 0.25
    panel.scatter(*point, alpha=alpha, **style)
    if row.get("std"):
      across, up = row["std"].get(name, 0), row["std"].get(quality, 0)
      bar = {"fmt": "none", "ecolor": style["color"], "elinewidth": 1}
      panel.errorbar(*point, up, across, alpha=alpha, zorder=0.5, **bar)
    if kept:
      panel.annotate(
        model(row),
        point,
        (6, -9),
        textcoords="offset points",
        size=7,
        parse_math=False,  # A dollar sign in a config is no formula.
      )
  if marks.knee is not None:
    panel.scatter(*points[marks.knee], **_RING)
