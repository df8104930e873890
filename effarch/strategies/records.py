"""Run folders as rows, one for each artifact: what every table is made from."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from effarch.config import flatten
from effarch.errors import UserError
from effarch.infrastructure.export import read_artifacts
from effarch.infrastructure.training import RunFolder

QUALITIES = ("accuracy", "validation_accuracy")
FOOTPRINTS = ("size_bytes", "latency_us", "macs", "params", "train_seconds")
# A longer name of a model is none.
_LONGEST = 40
_RESULT = ("params", "statistics", "macs", "flops", "epoch", "train_seconds")


def collect(*folders: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the artifacts of studies or folders, smallest file first.

  These are of the runs that a folder's `study.json` lists, or else of all runs
  below.

  Each row has `run`, `kind`, the artifact's own columns (see `ship` and
  `time_artifacts`), the model's cost, and three nested ones: `config`, the
  leaves in which the runs differ; `curve`, the lines of `metrics.jsonl`;
  `provenance`, that of the last start.

  Args:
    *folders: at least one. Runs are named from it, or from what is above all
      of several; one that lies in two of them counts once.

  Raises:
    UserError: a folder holds no artifact.
  """
  whole = [folder.expanduser().resolve() for folder in folders]
  above = pathlib.Path(os.path.commonpath(whole))
  runs: dict[str, RunFolder] = {}
  for folder, place in zip(folders, whole, strict=True):
    found = [path for path in _runs(place) if read_artifacts(RunFolder(path))]
    if not found:
      raise UserError(f"{folder}: holds no run with artifacts")
    runs |= {
      path.relative_to(above).as_posix(): RunFolder(path) for path in found
    }
  configs = {
    name: flatten(run.read("config.json")) for name, run in runs.items()
  }
  varied = {
    key
    for config in configs.values()
    for key in config
    if any(other.get(key) != config[key] for other in configs.values())
  }
  rows = []
  for name, run in runs.items():
    result = run.read("result.json")
    for artifact in read_artifacts(run):
      rows.append(
        {
          "run": name,
          **artifact,
          "kind": _kind(artifact),
          **{name: result[name] for name in _RESULT},
          "config": {k: v for k, v in configs[name].items() if k in varied},
          "curve": run.read_lines("metrics.jsonl"),
          "provenance": run.read_lines("provenance.jsonl")[-1],
        }
      )
  rows.sort(key=lambda row: (row["size_bytes"], row["run"]))
  # JSON knows neither NaN nor Infinity, and a page that holds one stays empty.
  return json.loads(json.dumps(rows), parse_constant=str)


def _runs(folder: pathlib.Path) -> list[pathlib.Path]:
  runs = sorted(path.parent for path in folder.glob("**/result.json"))
  if RunFolder(folder).has("study.json"):
    listed = RunFolder(folder).read("study.json")["runs"]
    runs = [run for run in runs if run.relative_to(folder).as_posix() in listed]
  return runs


def _kind(artifact: dict[str, Any]) -> str:
  """Returns the precision, and the format if it is not the usual one."""
  precision, kind = artifact["precision"], artifact["format"]
  return precision if kind == "litert" else f"{precision} {kind}"


def model(row: Mapping[str, Any]) -> str:
  """Returns the values that vary, or the run's name where these are many."""
  values = " ".join(str(value) for value in row["config"].values())
  short = 0 < len(values) <= _LONGEST
  return values if short else re.sub(r"/seed=\d+$", "", row["run"])


def label(row: Mapping[str, Any]) -> str:
  """Returns a short name: that of the model, and the kind of file."""
  return f"{model(row)} {row['kind']}"


def write_tables(folder: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
  """Writes `frontier.csv` and `frontier.json` into `folder`.

  The table has the columns with one value, and spreads as `<column>_std`; the
  JSON has all that `collect` gives, where it comes from included.
  """
  flat = [
    {
      **{k: v for k, v in row.items() if not isinstance(v, dict | list)},
      **{f"{name}_std": value for name, value in row.get("std", {}).items()},
      **row["config"],
    }
    for row in rows
  ]
  text = io.StringIO()
  writer = csv.DictWriter(text, list(dict.fromkeys(k for r in flat for k in r)))
  writer.writeheader()
  writer.writerows(flat)
  record = RunFolder(folder)
  record.write_bytes("frontier.csv", text.getvalue().encode())
  record.write("frontier.json", rows)
