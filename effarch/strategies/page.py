"""The page of a report, which works offline."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from effarch.strategies.marks import mark
from effarch.strategies.picture import TITLES
from effarch.strategies.records import FOOTPRINTS, QUALITIES, label


def html(
  rows: Sequence[dict[str, Any]], quality: str, footprint: str, title: str
) -> str:
  """Returns one page with everything in it, plotting library included.

  Args:
    rows: artifacts, or their means over seeds; with `frontier`.
    quality: the vertical axis to start with.
    footprint: the horizontal axis to start with.
    title: the page's.
  """
  axes = {
    "quality": [n for n in QUALITIES if all(n in row for row in rows)],
    "footprint": [n for n in FOOTPRINTS if all(n in row for row in rows)],
  }
  # What stands out by which pair, so the page computes none.
  pairs = {
    f"{up}|{across}": mark(rows, up, [across])
    for up in axes["quality"]
    for across in axes["footprint"]
  }
  data = {
    "title": title,
    "rows": [_shown(row) for row in rows],
    "axes": axes,
    "start": {"quality": quality, "footprint": footprint},
    "titles": TITLES,
    "frontiers": {k: _places(m.frontier) for k, m in pairs.items()},
    "undecided": {k: _places(m.undecided) for k, m in pairs.items()},
    "knees": {k: m.knee for k, m in pairs.items()},
  }
  # Within a script element only "</" and "<!--" could end the data early.
  embedded = json.dumps(data).replace("<", "\\u003c")
  template = importlib.resources.files("effarch.strategies") / "report.html"
  return (
    template.read_text()
    .replace("/*PLOTLY*/", get_plotlyjs())
    .replace("/*DATA*/", embedded)
  )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
  shown = {key: value for key, value in row.items() if key != "members"}
  return {**shown, "label": label(row)}


def _places(chosen: np.ndarray) -> list[int]:
  return np.flatnonzero(chosen).tolist()
