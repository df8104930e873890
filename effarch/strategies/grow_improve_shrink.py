"""Grow-improve-and-shrink: more capacity, then its quality in the old size.

The second strategy of the survey's guide (arXiv:2106.08962, section 4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from effarch.strategies.lab import START, Candidate, Lab, Tried
from effarch.strategies.limits import told
from effarch.strategies.steps import improved, made, price, top
from effarch.strategies.strategy import Changes, Planned, Strategy


@dataclasses.dataclass(frozen=True)
class GrowImproveShrink(Strategy):
  """Wins quality at a footprint that does not grow.

  Larger models are trained, the best of them is improved, and models within the
  limits learn from it, with its improvements.

  Args:
    grow: by name a larger model, as changes of the config.
    shrink: by name what is trained within the limits, as changes of the config
      that the improvements come before; its techniques may have the teacher
      `grown`.
  """

  grow: Changes = dataclasses.field(default_factory=dict)
  shrink: Changes = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    for name in ("grow", "shrink"):
      if not getattr(self, name):
        raise ValueError(f"{name}: names no model")

  def changes(self) -> list[tuple[str, Changes]]:
    return [
      ("grow", self.grow),
      *super().changes(),
      ("shrink", self.shrink),
    ]

  def _large(self, lab: Lab) -> list[Candidate]:
    return [made(lab.start, n, c, {}) for n, c in self.grow.items()]

  def _small(self, lab: Lab, kept, name: str, teachers) -> Candidate:
    """Returns the start with what helped the grown, and a change of its own."""
    improved = lab.start
    for each in kept:
      improved = made(improved, each, self.improve[each], teachers)
    small = made(improved, name, self.shrink[name], teachers)
    return dataclasses.replace(small, name=name, parent=START)

  def plan(self, lab: Lab) -> list[Planned]:
    large = max(self._large(lab), key=lab.price)
    return [
      Planned("train the start", 1, lab.price(lab.start)),
      Planned(
        f"grow: {', '.join(self.grow)}",
        len(self.grow),
        price(lab, lab.start, self.grow),
      ),
      Planned(
        f"improve the best of them: {', '.join(self.improve)}",
        len(self.improve),
        price(lab, large, self.improve),
      ),
      Planned(
        f"shrink to {told(self.limits_of(lab))}, with what helped: "
        f"{', '.join(self.shrink)}",
        len(self.shrink),
        price(lab, lab.start, self.shrink),
      ),
    ]

  def run(self, lab: Lab) -> Tried | None:
    limits = self.limits_of(lab)
    start = lab.train(lab.start)
    teachers: dict[str, Sequence[str]] = {"start": start.folders}
    grown = [lab.train(each) for each in self._large(lab) if lab.affords(each)]
    kept: list[str] = []
    for best in top(grown, (), 1):
      best, kept = improved(lab, best, self.improve, teachers, ())
      teachers["grown"] = best.folders
    found = [start]
    for name in self.shrink if "grown" in teachers else ():
      small = self._small(lab, kept, name, teachers)
      if lab.fits(small, limits) and lab.affords(small):
        found.append(lab.train(small))
    return next(iter(top(found, limits, 1)), None)
