"""Runs that differ only in their seed as one point: a mean with its spread."""

from __future__ import annotations

import collections
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effarch.strategies.frontier import objectives

_SEED = "seed"


def over_seeds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns rows of means, one for artifacts that differ only in `seed`.

  A row is the first seed's, without the seed in its `config`, with every
  number's mean instead, and `seeds`, how many there are; `std`, the sample
  standard deviation of every number, empty for one seed; `members`, the rows.
  Equal numbers stay as they are, so bytes stay whole. Smallest file first.

  Rows that have the same seed too are no further samples but repetitions: the
  first ones of each seed make a point, the second ones another. Where no two
  rows make a point, all come back as they were.

  Args:
    rows: as `collect` gives them.
  """
  groups: dict[Any, list[dict[str, Any]]] = collections.defaultdict(list)
  repeated = collections.Counter()
  for row in rows:
    config = dict(row["config"])
    seed = json.dumps(config.pop(_SEED, None))
    for key, value in config.items():
      # One that begins with another's weights names a folder of its own seed.
      if key.endswith(".folder"):
        config[key] = str(value).replace(f"{_SEED}={seed}", _SEED)
    point = json.dumps([config, row["kind"]], sort_keys=True)
    repeated[point, seed] += 1
    groups[point, repeated[point, seed]].append(row)
  if len(groups) == len(rows):
    return list(rows)
  points = [_point(members) for members in groups.values()]
  return sorted(points, key=lambda row: (row["size_bytes"], row["run"]))


def samples(
  row: Mapping[str, Any], quality: Sequence[str], footprint: Sequence[str]
) -> np.ndarray:
  """Returns `S M` numbers of a point, larger is better: a row for each seed."""
  return objectives(row.get("members", [row]), quality, footprint)


def _point(members: list[dict[str, Any]]) -> dict[str, Any]:
  first = members[0]
  columns: dict[str, list[int | float]] = {
    name: [row[name] for row in members]
    for name in first
    if all(_is_number(row.get(name)) for row in members)
  }
  several = len(members) > 1
  return {
    **{k: v for k, v in first.items() if k in columns or not _is_number(v)},
    **{name: _mean(values) for name, values in columns.items()},
    "config": {k: v for k, v in first["config"].items() if k != _SEED},
    "seeds": len(members),
    "std": {
      name: statistics.stdev(values)
      for name, values in columns.items()
      if several
    },
    "members": members,
  }


def _mean(values: list[int | float]) -> int | float:
  equal = all(value == values[0] for value in values)
  return values[0] if equal else statistics.fmean(values)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
