"""Run folders as rows, one for each artifact: what every table is made from."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from effarch.config import flatten
from effarch.errors import UserError
from effarch.infrastructure.export import read_artifacts
from effarch.infrastructure.training import RunFolder

QUALITIES = ("accuracy", "validation_accuracy")
FOOTPRINTS = ("size_bytes", "latency_us", "macs", "params", "train_seconds")
_RESULT = ("params", "statistics", "macs", "flops", "epoch", "train_seconds")


def collect(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the artifacts of a study or folder, smallest file first.

  These are of the runs that `study.json` lists, or else of all runs below.

  Each row has `run`, `kind`, the artifact's own columns (see `ship` and
  `time_artifacts`), the model's cost, and three nested ones: `config`, the
  leaves in which the runs differ; `curve`, the lines of `metrics.jsonl`;
  `provenance`, that of the last start.

  Raises:
    UserError: there is no artifact.
  """
  runs = sorted(path.parent for path in folder.glob("**/result.json"))
  if RunFolder(folder).has("study.json"):
    listed = RunFolder(folder).read("study.json")["runs"]
    runs = [run for run in runs if run.relative_to(folder).as_posix() in listed]
  configs = {run: flatten(RunFolder(run).read("config.json")) for run in runs}
  varied = {
    key
    for config in configs.values()
    for key in config
    if any(other.get(key) != config[key] for other in configs.values())
  }
  rows = []
  for run in runs:
    record = RunFolder(run)
    result = record.read("result.json")
    for artifact in read_artifacts(record):
      rows.append(
        {
          "run": run.relative_to(folder).as_posix(),
          **artifact,
          "kind": _kind(artifact),
          **{name: result[name] for name in _RESULT},
          "config": {k: v for k, v in configs[run].items() if k in varied},
          "curve": record.read_lines("metrics.jsonl"),
          "provenance": record.read_lines("provenance.jsonl")[-1],
        }
      )
  if not rows:
    raise UserError(f"{folder}: holds no run with artifacts")
  rows.sort(key=lambda row: (row["size_bytes"], row["run"]))
  # JSON knows neither NaN nor Infinity, and a page that holds one stays empty.
  return json.loads(json.dumps(rows), parse_constant=str)


def _kind(artifact: dict[str, Any]) -> str:
  """Returns the precision, and the format if it is not the usual one."""
  precision, kind = artifact["precision"], artifact["format"]
  return precision if kind == "litert" else f"{precision} {kind}"


def label(row: dict[str, Any]) -> str:
  """Returns a short name: the values that vary, and the kind of file."""
  values = [str(value) for value in row["config"].values()]
  return " ".join([*(values or [row["run"]]), row["kind"]])


def write_tables(folder: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
  """Writes `frontier.csv` and `frontier.json` into `folder`.

  The table has the columns with one value; the JSON has all that `collect`
  gives, where it comes from included.
  """
  flat = [
    {
      **{k: v for k, v in row.items() if not isinstance(v, dict | list)},
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
