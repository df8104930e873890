"""The exam of trainings that are killed."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import TypeVar
from unittest import mock

from effarch.infrastructure.training import loop

T = TypeVar("T")


def check_resumes(
  train: Callable[[pathlib.Path], T], folder: pathlib.Path
) -> T:
  """Examines whether what was killed and goes on is the undisturbed training.

  Args:
    train: trains in a folder, or goes on there, for more than two epochs.
    folder: gets both trainings, `whole` and `killed`.

  Returns:
    What the undisturbed training gave.
  """

  def dying(self, row):
    if row["epoch"] == 2:
      raise InterruptedError

  whole, killed = folder / "whole", folder / "killed"
  result = train(whole)
  with mock.patch.object(loop.Progress, "evaluated", dying):
    try:
      train(killed)
    except InterruptedError:
      pass
    else:
      raise AssertionError("a training of two epochs at most tells nothing")
  train(killed)
  logs = [(path / "metrics.jsonl").read_bytes() for path in (whole, killed)]
  assert logs[0] == logs[1], "other numbers than undisturbed"
  return result
