"""What strategies have in common: options, a plan, and a run by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from effarch.strategies.edits import checked
from effarch.strategies.lab import Candidate, Lab, Tried
from effarch.strategies.limits import Limit, parse_limits
from effarch.strategies.steps import made

Changes = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Planned:
  """A stage of a plan.

  Args:
    what: is done.
    candidates: so many at most.
    price: in trainings of the start from one seed, at most.
  """

  what: str
  candidates: int
  price: float


@dataclasses.dataclass(frozen=True)
class Strategy:
  """Options of all strategies.

  Args:
    limits: of the files that are looked for, as `50KB`, `latency_us<=150` or,
      of the start's smallest file, `size_bytes<=0.25x`.
    improve: by name, changes of the config that may help; `techniques` among
      them come after those that are there. They are tried one after the other,
      in the order of their names if they come from a config, and kept if
      validation says so.
    start: the folder of a finished run to start with; without it, the config is
      trained.
    seeds: each candidate is trained from all of them.
    budget: of compute, in trainings of the start from one seed; what it has
      not enough left for is left out.
  """

  limits: tuple[str, ...] = ("size_bytes<=1x",)
  improve: Changes = dataclasses.field(default_factory=dict)
  start: str = ""
  seeds: tuple[int, ...] = (0, 1, 2)
  budget: float = 100.0

  def __post_init__(self):
    if not self.limits:
      raise ValueError("limits: names none")
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds: {self.seeds} are none, or one is there twice")
    if not self.budget > 0:
      raise ValueError(f"budget: {self.budget} is not in (0, inf)")
    names = [name for _, each in self.changes() for name in each]
    for name in names:
      if not name.isidentifier() or names.count(name) > 1:
        raise ValueError(
          f"{name}: is no name, or two; let letters, digits and _ tell all "
          "changes apart"
        )

  def changes(self) -> list[tuple[str, Changes]]:
    """Returns all options that name changes of the config."""
    return [("improve", self.improve)]

  def check(self, start: Candidate) -> None:
    """Refuses changes that make an impossible config.

    Raises:
      UserError: so it is.
    """
    for option, changes in self.changes():
      for name, each in changes.items():
        new = made(start, name, each, {})
        place = {"config": f"config.strategy.{option}.{name}"}
        # A teacher's folder is known when there is one.
        checked(new.config, place)

  def limits_of(self, lab: Lab) -> tuple[Limit, ...]:
    """Returns the limits; the start's smallest file is known untrained."""
    rows = lab.footprint(lab.start)
    least = min(rows, key=lambda row: row["size_bytes"])
    return parse_limits(self.limits, least)

  def plan(self, lab: Lab) -> list[Planned]:
    """Returns the stages; footprints are measured, and nothing is trained.

    Raises:
      UserError: nothing can come of it.
    """
    raise NotImplementedError

  def run(self, lab: Lab) -> Tried | None:
    """Trains; returns the best within limits by validation, if there is one."""
    raise NotImplementedError
