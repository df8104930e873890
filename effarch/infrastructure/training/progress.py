"""A progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
  """Shows loss, accuracy, examples a second and the time left.

  Args:
    title: the run's name.
    loop: has `epochs` and `batch_size`.
    steps_per_epoch: steps an epoch.
    first_epoch: epochs that are done already.
  """

  def __init__(self, title, loop, steps_per_epoch: int, first_epoch: int):
    self._title = title
    self._loop = loop
    self._total = loop.epochs * steps_per_epoch
    self._done = self._since = first_epoch * steps_per_epoch
    self._started: float | None = None
    self._console = Console()
    self._bar = None
    if self._console.is_terminal:
      self._bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=self._console,
        transient=True,
      )
    elif first_epoch:
      print(f"{title}: goes on after epoch {first_epoch}", flush=True)

  def __enter__(self) -> Progress:
    if self._bar:
      self._bar.start()
      self._task = self._bar.add_task(
        escape(self._title),
        total=self._total,
        completed=self._done,
        note="compiling",
      )
    return self

  def __exit__(self, *exception) -> None:
    if self._bar:
      self._bar.stop()

  def advance(self, metrics: Mapping[str, float], steps: int) -> None:
    """Counts steps that are done, with the metrics of the last of them."""
    self._done += steps
    if self._started is None:
      # The first dispatch compiled; speed is measured from here.
      self._started, self._since = time.perf_counter(), self._done
    if self._bar:
      self._bar.update(
        self._task,
        completed=self._done,
        note=f"{_numbers(metrics)} {self._rate():,.0f} examples/s",
      )

  def evaluated(self, row: Mapping[str, int | float]) -> None:
    """Tells of one evaluation."""
    numbers = {k: v for k, v in row.items() if k != "epoch"}
    speed = f"{self._rate():,.0f} examples/s" if self._rate() else ""
    line = (
      f"{self._title}: epoch {row['epoch']}/{self._loop.epochs} "
      f"{_numbers(numbers)} {speed} {self._time_left()}"
    )
    if self._bar:
      self._console.print(line, highlight=False, markup=False)
    else:
      print(line.rstrip(), flush=True)

  def _rate(self) -> float:
    """Returns examples a second since the first dispatch."""
    if self._started is None or self._done == self._since:
      return 0.0
    elapsed = time.perf_counter() - self._started
    return (self._done - self._since) * self._loop.batch_size / elapsed

  def _time_left(self) -> str:
    left = (self._total - self._done) * self._loop.batch_size
    if not left or not self._rate():
      return ""
    minutes, seconds = divmod(round(left / self._rate()), 60)
    return f"{minutes}:{seconds:02d} left"


def _numbers(metrics: Mapping[str, int | float]) -> str:
  return " ".join(f"{name} {value:.4f}" for name, value in metrics.items())
