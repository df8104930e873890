"""What a comparison trains: arms that differ from plain in one technique.

The config is a trial's, with `compare` beside; see `Comparison`.
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from effarch.automation.trial import COMMANDS, Trial
from effarch.config import construct
from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder
from effarch.strategies.edits import changed, checked, leaves, taught, teachers
from effarch.strategies.verdict import PLAIN

_TEACHERS = "teachers"
_RESULT = (
  *("epoch", "test/accuracy", "validation/accuracy"),
  *("params", "macs", "train_seconds", "step_seconds"),
)

# From the entries in which a run differs from the config, and its folder, to
# what a reader would type to repeat it.
Command = Callable[[dict[str, Any], pathlib.Path], str]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What is compared.

  Args:
    arms: by name a technique, which comes after the config's own; the arm
      `plain` has those alone.
    seeds: of each arm; a seed decides initial weights, order and random
      numbers, and nothing of the data.
    time: whether arms also get as many epochs as take no longer than plain's.
    teachers: by name the entries in which a teacher differs from the config,
      in a tree like it. They are trained first, from the config's seed; an
      arm's `teacher` that is such a name becomes the folder of its run.
  """

  arms: dict[str, dict[str, Any]]
  seeds: tuple[int, ...] = (0, 1, 2)
  time: bool = True
  teachers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not self.arms:
      raise ValueError("arms: names no technique")
    for name, technique in self.arms.items():
      _check_name(f"arms.{name}", name)
      if not isinstance(technique, Mapping) or "name" not in technique:
        raise ValueError(f"arms.{name}: {technique!r} is no technique")
      first = next(k for k, v in self.arms.items() if v == technique)
      if first != name:
        raise ValueError(f"arms.{name}: is the technique of {first} again")
    if not self.seeds:
      raise ValueError("seeds: names no seed")
    for place, seed in enumerate(self.seeds):
      if seed in self.seeds[:place]:
        raise ValueError(f"seeds: {seed!r} is there twice")
    named = [t for each in self.arms.values() for t in teachers(each)]
    for name, changes in self.teachers.items():
      _check_name(f"teachers.{name}", name)
      if not isinstance(changes, Mapping):
        raise ValueError(f"teachers.{name}: {changes!r} is no tree of entries")
      if name not in named:
        raise ValueError(f"teachers.{name}: is no arm's teacher")


@dataclasses.dataclass(frozen=True)
class Run:
  """One training.

  Args:
    arm: its name, or a teacher's.
    trial: that is trained.
    entries: in which its config differs, by path.
    folder: below the folder of all.
  """

  arm: str
  trial: Trial
  entries: dict[str, Any]
  folder: str

  def for_epochs(self, epochs: int) -> Run:
    """Returns the same run with another number of epochs."""
    config = copy.deepcopy(self.trial.config)
    config["training"]["epochs"] = epochs
    return Run(
      self.arm,
      Trial(config),
      {**self.entries, "training.epochs": epochs},
      f"{self.arm},epochs={epochs}/seed={self.trial.seed}",
    )

  def train(self, workdir: pathlib.Path, command: Command) -> dict[str, Any]:
    """Trains what is not yet trained, and returns the record's row of it."""
    path = workdir / self.folder
    config = self.trial.config
    folder = RunFolder.open(path, config, command(self.entries, path))
    result = self.trial.train(folder)
    epochs = self.trial.loop.epochs
    steps = epochs * result["step"] // result["epoch"]
    return {
      "arm": self.arm,
      "seed": self.trial.seed,
      "epochs": epochs,
      "run": self.folder,
      **{name: result[name] for name in _RESULT},
      "seconds": steps * result["step_seconds"],
      "provenance": folder.read_lines("provenance.jsonl")[-1],
    }


def plan(
  config: Mapping[str, Any], workdir: pathlib.Path
) -> tuple[Comparison, list[Run], list[Run]]:
  """Returns the comparison, its teachers and its arms, all of them checked.

  Args:
    config: a trial's, and `compare`.
    workdir: where the runs will be.

  Raises:
    UserError: an entry is unknown or impossible, in any of the trials.
  """
  if "compare" not in config:
    raise UserError("config.compare: missing; experiments.train runs one trial")
  chosen: Comparison = construct(
    Comparison, config["compare"], "config.compare"
  )
  base = {k: v for k, v in config.items() if k not in COMMANDS}
  plain = Trial(base)  # What is wrong from here on is wrong in `compare`.
  if chosen.time and plain.loop.epochs < 2:
    raise UserError(
      "config.compare.time: True needs a second epoch, as the first compiles; "
      "raise config.training.epochs"
    )
  taught_by = []
  for name, changes in chosen.teachers.items():
    place = f"{_TEACHERS}/{name}"
    where = {"config": f"config.compare.{_TEACHERS}.{name}"}
    trial = checked(changed(base, changes), where)
    taught_by.append(Run(name, trial, leaves(changes), place))
  folders = {each.arm: str(workdir / each.folder) for each in taught_by}
  arms, place = [], len(base["techniques"])
  for seed in chosen.seeds:  # First, so that all arms see a slow hour alike.
    for name, technique in {PLAIN: None, **chosen.arms}.items():
      entries: dict[str, Any] = {"seed": seed}
      if technique:
        own = (*base["techniques"], taught(technique, folders))
        entries["techniques"] = own
      where = {
        "config.seed": "config.compare.seeds",
        f"config.techniques[{place}]": f"config.compare.arms.{name}",
      }
      trial = checked({**base, **entries}, where)
      arms.append(Run(name, trial, entries, f"{name}/seed={seed}"))
  return chosen, taught_by, arms


def _check_name(where: str, name: str) -> None:
  if name in (PLAIN, _TEACHERS):
    raise ValueError(f"{where}: the name is taken; choose another")
  if not re.fullmatch(r"\w+", name):
    raise ValueError(f"{where}: has more than letters, digits and _")
