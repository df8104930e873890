"""How cost grows with the batch and with the length of sequences."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from effarch.infrastructure.cost.latency import latencies
from effarch.infrastructure.cost.report import Report

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
  """What is varied while a model is measured.

  Args:
    batch_sizes: how many inputs at a time.
    sequence_lengths: of each input, `T C` or tokens `T` or `2 T`; empty if it
      stays.
    train: training steps are measured, not inference.
  """

  batch_sizes: tuple[int, ...] = (1,)
  sequence_lengths: tuple[int, ...] = ()
  train: bool = False

  def __post_init__(self):
    for name in ("batch_sizes", "sequence_lengths"):
      values = getattr(self, name)
      if not isinstance(values, tuple | list) or not all(
        type(value) is int and value > 0 for value in values
      ):
        raise ValueError(
          f"{name}: {values!r} is no list of positive whole numbers, (1,8)"
        )
    if not self.batch_sizes:
      raise ValueError("batch_sizes: is empty")

  def reports(
    self,
    measured: Callable[[jax.ShapeDtypeStruct], Report],
    example_shape: Sequence[int],
    dtype: Any = jnp.float32,
  ) -> list[tuple[dict[str, int], Report]]:
    """Returns the report of each combination, with what it varied.

    Args:
      measured: from a batch's shape to its report, by `measure`.
      example_shape: of one input.
      dtype: of the inputs.

    Raises:
      ValueError: lengths are given, and an input is no sequence.
    """
    if not self.sequence_lengths:
      return [
        (
          {"batch_size": size},
          measured(jax.ShapeDtypeStruct((size, *example_shape), dtype)),
        )
        for size in self.batch_sizes
      ]
    if len(example_shape) not in (1, 2):
      shape = "x".join(map(str, example_shape))
      raise ValueError(f"sequence_lengths: an input of {shape} is no sequence")
    reports = []
    for size, length in itertools.product(
      self.batch_sizes, self.sequence_lengths
    ):
      shape = [size, *example_shape]
      # Of floats `T C`, of tokens `T`, or of pairs `2 T`.
      shape[-1 if jnp.issubdtype(dtype, jnp.integer) else 1] = length
      varied = {"batch_size": size, "sequence_length": length}
      example = jax.ShapeDtypeStruct(tuple(shape), dtype)
      reports.append((varied, measured(example)))
    return reports


def timed(reports: Sequence[tuple[dict[str, int], Report]]) -> list[Row]:
  """Runs all reports' programs in turns, so that drift meets all alike.

  Returns:
    For each what was varied, its counts, `peak_bytes`, `compile_seconds`,
    latencies as in `Latency`, and `us_per_example`.
  """
  times = latencies([report.executable.call() for _, report in reports])
  return [
    {
      **varied,
      **report.numbers(),
      "peak_bytes": report.peak_bytes,
      **dataclasses.asdict(found),
      "compile_seconds": report.compile_seconds,
      "us_per_example": found.p50_us / varied["batch_size"],
    }
    for (varied, report), found in zip(reports, times, strict=True)
  ]


def plot(rows: Sequence[Row], title: str) -> bytes:
  """Returns a PNG of latency and memory over what a sweep varied.

  The axis is the sequence length if there are several, with a line for each
  batch size; else it is the batch size. A band spans the medians of the rounds.
  """
  file = io.BytesIO()
  figure(rows, title).savefig(file, dpi=140, format="png")
  return file.getvalue()


def figure(rows: Sequence[Row], title: str) -> Figure:
  """Returns what `plot` shows."""
  by_length = len({row.get("sequence_length") for row in rows}) > 1
  axis, line = (
    ("sequence_length", "batch_size")
    if by_length
    else ("batch_size", "sequence_length")
  )
  made = Figure(figsize=(10, 4), layout="constrained")
  time, memory = made.subplots(1, 2)
  for value in dict.fromkeys(row.get(line) for row in rows):
    own = [row for row in rows if row.get(line) == value]
    x = [row[axis] for row in own]
    label = None if value is None else f"{line.replace('_', ' ')} {value}"
    low, median, high = (
      [row[name] / 1e6 for row in own]
      for name in ("low_us", "p50_us", "high_us")
    )
    time.fill_between(x, low, high, alpha=0.2)
    time.plot(x, median, marker="o", label=label)
    memory.plot(x, [row["peak_bytes"] for row in own], marker="o", label=label)
  time.set_ylabel("latency, median, and range of the rounds")
  memory.set_ylabel("memory of the compiled program")
  for panel, unit in ((time, "s"), (memory, "B")):
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(EngFormatter(unit))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(axis.replace("_", " "))
    ticks = sorted({row[axis] for row in rows})
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.grid(alpha=0.3)
  if len({row.get(line) for row in rows}) > 1:
    time.legend()
  made.suptitle(title, parse_math=False)
  return made
