"""A study: a grid of trials in one folder, their artifacts measured together.

The config is a trial's, with `study` beside: `grid`, a tree like the config
whose leaves are tuples of values, and the columns `quality` and `footprint`
of the frontier.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from effarch.automation.trial import COMMANDS, Trial
from effarch.config import construct, did_you_mean, flatten
from effarch.errors import UserError
from effarch.infrastructure.export import time_artifacts
from effarch.infrastructure.training import RunFolder, folder_name
from effarch.strategies.records import FOOTPRINTS, QUALITIES


@dataclasses.dataclass(frozen=True)
class Study:
  """What is varied, and what a frontier is drawn over.

  Args:
    grid: tuples of values, in a tree like the config; all combinations run.
      An empty mapping passes over an entry of a list: the second technique's
      smoothing is `{"techniques": ({}, {"smoothing": (0.0, 0.1)})}`.
    quality: a column of which more is better.
    footprint: columns of which less is better.
  """

  grid: dict[str, Any]
  quality: str = QUALITIES[0]
  footprint: tuple[str, ...] = FOOTPRINTS[:2]

  def __post_init__(self):
    if self.quality not in QUALITIES:
      hint = did_you_mean(self.quality, QUALITIES)
      raise ValueError(f"quality: {self.quality!r} is unknown; {hint}")
    if not self.footprint:
      raise ValueError("footprint: names no column")
    for name in self.footprint:
      if name not in FOOTPRINTS:
        hint = did_you_mean(name, FOOTPRINTS)
        raise ValueError(f"footprint: {name!r} is unknown; {hint}")
    for key, values in flatten(self.grid).items():
      if not isinstance(values, tuple | list) or not values:
        raise ValueError(f"grid.{key}: {values!r} is no tuple of values")


def plan(config: Mapping[str, Any]) -> tuple[Study, dict[str, Trial]]:
  """Returns the study and every trial by name, all of them checked.

  Raises:
    UserError: an entry is unknown or impossible, in any of the trials.
  """
  if "study" not in config:
    raise UserError("config.study: missing; experiments.train runs one trial")
  study: Study = construct(Study, config["study"], "config.study")
  base = {k: v for k, v in config.items() if k not in COMMANDS}
  grid, known = flatten(study.grid), flatten(base)
  for key in grid:
    if key not in known:
      hint = did_you_mean(key, known)
      raise UserError(f"config.study.grid.{key}: unknown; {hint}")
  # A key's last part names it, unless another key ends in the same.
  lasts = [key.split(".")[-1] for key in grid]
  short = {
    key: key if lasts.count(last) > 1 else last
    for key, last in zip(grid, lasts, strict=True)
  }
  trials = {}
  for values in itertools.product(*grid.values()):
    changed = copy.deepcopy(base)
    for key, value in zip(grid, values, strict=True):
      _assign(changed, key, value)
    for key in grid.keys() - flatten(changed):
      raise UserError(f"config.study.grid.{key}: a value is a tree, no leaf")
    trial = Trial(changed)
    name = folder_name(
      f"{short[key]}={value}" for key, value in zip(grid, values, strict=True)
    )
    if name in trials:
      raise UserError(f"config.study.grid: gives two trials the name {name!r}")
    trials[name] = trial
  return study, trials


def run(
  config: Mapping[str, Any],
  workdir: pathlib.Path,
  command: Callable[[dict[str, Any], pathlib.Path], str],
) -> None:
  """Trains, ships and measures every trial; takes up what was begun.

  Args:
    config: a trial's, and `study`.
    workdir: the study's folder; each trial gets one in it.
    command: from the entries that a trial varies, and its folder, to what a
      reader would type to repeat it.
  """
  study, trials = plan(config)
  varied = flatten(study.grid)
  record = {**dataclasses.asdict(study), "runs": list(trials)}
  RunFolder(workdir).write("study.json", record)
  for name, trial in trials.items():
    entries = flatten(trial.config)
    folder = RunFolder.open(
      workdir / name,
      trial.config,
      command({key: entries[key] for key in varied}, workdir / name),
    )
    trial.train(folder)
    trial.ship(folder)
  time_artifacts([RunFolder(workdir / name) for name in trials])


def _assign(tree: Any, path: str, value: Any) -> None:
  """Sets `tree.a.b[0].c` for `path` "a.b[0].c"."""
  *parents, last = re.findall(r"[^.\[\]]+", path)
  for key in parents:
    tree = tree[int(key)] if isinstance(tree, list | tuple) else tree[key]
  tree[last] = value
