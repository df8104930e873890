"""Shrink-and-improve: a smaller model first, then its quality won back.

The first strategy of the survey's guide (arXiv:2106.08962, section 4).
"""

from __future__ import annotations

import dataclasses

from effarch.errors import UserError
from effarch.strategies.lab import Candidate, Lab, Tried
from effarch.strategies.limits import told
from effarch.strategies.steps import improved, made, price, top
from effarch.strategies.strategy import Changes, Planned, Strategy


@dataclasses.dataclass(frozen=True)
class ShrinkAndImprove(Strategy):
  """Fits a model into limits, and wins back what that lost.

  What fits is known before it is trained, by files of drawn numbers. The
  largest that do are trained, the best of them improved, and the best of these
  goes on with what `refine` names, such as training with rounded weights.

  Args:
    shrink: by name a smaller model, as changes of the config.
    refine: by name, changes for a further training that begins with what the
      best has learned.
    tries: so many smaller models are trained.
    keep: so many of them are improved.
  """

  shrink: Changes = dataclasses.field(default_factory=dict)
  refine: Changes = dataclasses.field(default_factory=dict)
  tries: int = 4
  keep: int = 2

  def __post_init__(self):
    super().__post_init__()
    for name in ("tries", "keep"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}: {getattr(self, name)} is not in [1, inf)")
    if not self.shrink:
      raise ValueError("shrink: names no smaller model")

  def changes(self) -> list[tuple[str, Changes]]:
    return [
      ("shrink", self.shrink),
      *super().changes(),
      ("refine", self.refine),
    ]

  def _small(self, lab: Lab) -> list[Candidate]:
    """Returns the candidates within the limits that are tried.

    Raises:
      UserError: there is none.
    """
    limits = self.limits_of(lab)
    found = [made(lab.start, n, c, {}) for n, c in self.shrink.items()]
    fit = [each for each in found if lab.fits(each, limits)]
    if not fit:
      least = min(lab.least(each, limits) for each in found)
      raise UserError(
        f"config.strategy.shrink: no model is within {told(limits)}; the "
        f"nearest exceeds it {least:.2f} times. Name smaller ones"
      )
    return sorted(fit, key=lambda each: -lab.price(each))[: self.tries]

  def plan(self, lab: Lab) -> list[Planned]:
    small = self._small(lab)
    keep = min(self.keep, len(small))
    within = told(self.limits_of(lab))
    return [
      Planned("train the start", 1, lab.price(lab.start)),
      Planned(
        f"train the largest of {len(self.shrink)} models with {within}: "
        + ", ".join(each.name for each in small),
        len(small),
        sum(map(lab.price, small), 0.0),
      ),
      Planned(
        f"improve the best {keep}: {', '.join(self.improve)}",
        keep * len(self.improve),
        keep * price(lab, small[0], self.improve),
      ),
      Planned(
        f"go on with the best: {', '.join(self.refine)}",
        len(self.refine),
        price(lab, small[0], self.refine),
      ),
    ]

  def run(self, lab: Lab) -> Tried | None:
    limits = self.limits_of(lab)
    small = self._small(lab)
    start = lab.train(lab.start)
    teachers = {"start": start.folders}
    found = [lab.train(each) for each in small if lab.affords(each)]
    found = [
      improved(lab, each, self.improve, teachers, limits)[0]
      for each in top(found, limits, self.keep)
    ]
    for best in top(found, limits, 1):
      for name, changes in self.refine.items():
        new = made(best.candidate, name, changes, teachers, goes_on=True)
        if lab.affords(new):
          found.append(lab.train(new))
    return next(iter(top(found, limits, 1)), None)
