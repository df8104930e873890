"""Steps that strategies are made of: shrink, grow, improve, go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from effarch.strategies.edits import changed, taught
from effarch.strategies.lab import Candidate, Lab, Tried, validated
from effarch.strategies.limits import Limit

Changes = Mapping[str, Any]


def made(
  parent: Candidate,
  name: str,
  changes: Changes,
  teachers: Mapping[str, Sequence[str]],
  *,
  goes_on: bool = False,
) -> Candidate:
  """Returns a candidate that differs from its parent by one step.

  Args:
    parent: that is changed.
    name: of the step.
    changes: a tree of entries like the config; techniques come after the
      parent's.
    teachers: by name the folders of runs, for techniques with a `teacher`.
    goes_on: see `Candidate`.
  """
  changes = dict(changes)
  added = tuple(taught(t, teachers) for t in changes.pop("techniques", ()))
  config = changed(parent.config, changes)
  config["techniques"] = (*parent.config["techniques"], *added)
  folder = f"{parent.name}+{name}" if parent.parent else name
  return Candidate(folder, name, config, parent.name, goes_on)


def price(lab: Lab, parent: Candidate, changes: Mapping[str, Changes]) -> float:
  """Returns what it costs to try each change of a candidate by itself."""
  found = [made(parent, name, each, {}) for name, each in changes.items()]
  return sum(map(lab.price, found), 0.0)


def top(
  found: Iterable[Tried], limits: Sequence[Limit], count: int
) -> list[Tried]:
  """Returns the best by validation of those with a file within limits."""
  files = [(each, each.best(limits)) for each in found]
  fit = [(validated(file), each) for each, file in files if file]
  return [each for _, each in sorted(fit, key=lambda pair: -pair[0])[:count]]


def improved(
  lab: Lab,
  tried: Tried,
  improvements: Mapping[str, Changes],
  teachers: Mapping[str, Sequence[str]],
  limits: Sequence[Limit],
) -> tuple[Tried, list[str]]:
  """Tries one improvement after the other, and keeps those that help.

  An improvement is kept where the mean accuracy on validation data is higher
  with it, of the best file within the limits.

  Returns:
    What came out, and the names of what was kept.
  """
  kept = []
  for name, changes in improvements.items():
    new = made(tried.candidate, name, changes, teachers)
    if not lab.affords(new):
      continue
    found = lab.train(new)
    if top([tried, found], limits, 1) == [found]:
      tried = found
      kept.append(name)
  return tried, kept
