"""Where a strategy tries things: candidates, trained from several seeds.

Every candidate is a folder with a run folder for each seed, and two records of
its own: `footprint.json`, what its files cost before it was trained, and
`tried.json`, what they reached. Both are written once, so a strategy that was
stopped finds what it had found, and decides as it would have.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from effarch.automation.footprint import footprints
from effarch.automation.trial import Trial
from effarch.infrastructure.export import read_artifacts, time_artifacts
from effarch.infrastructure.training import RunFolder
from effarch.strategies.edits import leaves, teachers
from effarch.strategies.limits import Limit

START = "start"
_NUMBERS = ("accuracy", "validation_accuracy")
_COSTS = ("size_bytes", "latency_us", "params", "macs")


@dataclasses.dataclass(frozen=True)
class Candidate:
  """What may be trained.

  Args:
    name: of its folder.
    step: what makes it of its parent, in a few words.
    config: a trial's; the seed is replaced.
    parent: the name of what it was made of.
    goes_on: whether it begins with what its parent has learned.
  """

  name: str
  step: str
  config: Mapping[str, Any]
  parent: str = ""
  goes_on: bool = False


@dataclasses.dataclass(frozen=True)
class Tried:
  """What a candidate has come to.

  Args:
    candidate: that was trained.
    files: of each kind a row: `precision`, `format`, `seeds` values of
      `accuracy` and `validation_accuracy`, and the largest `size_bytes`, ...
    train_seconds: of all its seeds.
    folders: of its runs.
  """

  candidate: Candidate
  files: Sequence[dict[str, Any]]
  train_seconds: float
  folders: tuple[str, ...]

  def best(self, limits: Sequence[Limit] = ()) -> dict[str, Any] | None:
    """Returns its best file within limits, by validation; None if none is."""
    within = [
      f for f in self.files if all(f[m.column] <= m.most for m in limits)
    ]
    return max(within, key=validated, default=None)


def _flags(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns entries as flags have them, whose lists are tuples."""
  return {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in leaves(config).items()
  }


def _macs(config: Mapping[str, Any]) -> int:
  plain = {"techniques": (), "export": {"precisions": ("float32",)}}
  trial = Trial({**config, **plain})
  return trial.cost(trial.model()).macs


def validated(file: Mapping[str, Any]) -> float:
  """Returns a file's mean accuracy on validation data."""
  return statistics.fmean(file["validation_accuracy"])


class Lab:
  """Trains candidates and knows what they cost.

  Args:
    config: the trial's that candidates are made of and compared with.
    workdir: of all candidates.
    given: the folder of a finished run, whose config takes that one's place
      and which is not trained again; or none.
    seeds: each candidate is trained from all of them.
    budget: of the compute of all trainings; one of `config` from one seed costs
      one.
    command: from a run's entries that differ from `config`, and its folder, to
      what a user would type to repeat it.
    tell: is called with a line on each thing that happens.
  """

  def __init__(
    self,
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    *,
    given: str = "",
    seeds: Sequence[int],
    budget: float,
    command: Callable[[dict[str, Any], pathlib.Path], str],
    tell: Callable[[str], None],
  ):
    own = RunFolder(given).read("config.json") if given else config
    self.start = Candidate(START, "as it is", own)
    self.workdir = workdir
    self._given = given
    self._typed = _flags(config)
    self.seeds = tuple(seeds)
    self.tried: list[Tried] = []
    self._left = budget
    self._unit = self._compute(self.start)
    self._command = command
    self._tell = tell

  def price(self, candidate: Candidate) -> float:
    """Returns what training it from every seed costs of the budget.

    A step is three times a forward pass, and a teacher's pass is added; one
    that is not trained yet is taken to be like the start. What techniques cost
    beyond that is not known.
    """
    return len(self.seeds) * self._compute(candidate) / self._unit

  def affords(self, candidate: Candidate) -> bool:
    """Whether the budget has enough left; if not, that is told."""
    price = self.price(candidate)
    if price > self._left:
      self._tell(
        f"{candidate.name}: left out; it costs {price:.1f} trainings and "
        f"{self._left:.1f} are left of the budget"
      )
    return price <= self._left

  def footprint(self, candidate: Candidate) -> list[dict[str, Any]]:
    """Returns what its files will cost; see `footprints`."""
    record = RunFolder(self.workdir / candidate.name)
    if not record.has("footprint.json"):
      record.write("footprint.json", footprints(Trial(candidate.config)))
    return record.read("footprint.json")

  def fits(self, candidate: Candidate, limits: Sequence[Limit]) -> bool:
    """Whether one of its files will be within limits."""
    return self.least(candidate, limits) <= 1

  def least(self, candidate: Candidate, limits: Sequence[Limit]) -> float:
    """Returns what the nearest of its files will be times the limits."""
    return min(
      max(row[limit.column] / limit.most for limit in limits)
      for row in self.footprint(candidate)
    )

  def train(self, candidate: Candidate) -> Tried:
    """Trains, ships and measures what was not yet, from every seed."""
    self._left -= self.price(candidate)
    if candidate == self.start and self._given:
      folders = [RunFolder(self._given)]
      Trial(candidate.config).ship(folders[0])
    else:
      folders = [self._run(candidate, seed) for seed in self.seeds]
    record = RunFolder(self.workdir / candidate.name)
    if not record.has("tried.json"):
      time_artifacts(folders)
      record.write("tried.json", self._measured(candidate, folders))
    paths = tuple(str(folder.path) for folder in folders)
    found = Tried(candidate, folders=paths, **record.read("tried.json"))
    self.tried.append(found)
    return found

  def _compute(self, candidate: Candidate) -> int | float:
    config = candidate.config
    macs, epochs = 3 * _macs(config), config["training"]["epochs"]
    for technique in config["techniques"]:
      for each in teachers(technique):
        known = RunFolder(each).has("result.json")
        found = known and RunFolder(each).read("result.json")["macs"]
        macs += found or _macs(self.start.config)
    return macs * epochs

  def _run(self, candidate: Candidate, seed: int) -> RunFolder:
    path = self.workdir / candidate.name / f"seed={seed}"
    config = {**candidate.config, "seed": seed}
    if candidate.goes_on:
      parent = self.workdir / candidate.parent / f"seed={seed}"
      begin = {"name": "pretrained", "folder": str(parent)}
      config["techniques"] = (begin, *config["techniques"])
    entries = {
      key: value
      for key, value in _flags(config).items()
      if self._typed.get(key) != value
    }
    folder = RunFolder.open(path, config, self._command(entries, path))
    trial = Trial(config)
    trial.train(folder)
    trial.ship(folder)
    return folder

  def _measured(
    self, candidate: Candidate, folders: Sequence[RunFolder]
  ) -> dict[str, Any]:
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    seconds = 0.0
    for folder in folders:
      result = folder.read("result.json")
      seconds += result["train_seconds"]
      for row in read_artifacts(folder):
        cost = {name: result[name] for name in ("params", "macs")}
        kinds.setdefault((row["precision"], row["format"]), []).append(
          {**row, **cost}
        )
    files = [
      {
        "precision": precision,
        "format": kind,
        **{name: [row[name] for row in rows] for name in _NUMBERS},
        **{name: max(row[name] for row in rows) for name in _COSTS},
      }
      for (precision, kind), rows in kinds.items()
    ]
    return {"files": files, "train_seconds": seconds}
