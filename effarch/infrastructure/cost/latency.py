"""Latency of anything that runs: a function, a `.tflite`, an `.onnx`."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from effarch.infrastructure.runtime import inference


@dataclasses.dataclass(frozen=True)
class Latency:
  """Microseconds a call.

  Args:
    p50_us: the median.
    p90_us: of ten calls one takes longer.
    p99_us: of a hundred calls one does.
    calls: how many were timed.
    low_us: the median of the fastest round; calls are timed in rounds.
    high_us: that of the slowest: how far the machine drifts.
    compile_seconds: what went before, where something was compiled.
  """

  p50_us: float
  p90_us: float
  p99_us: float
  calls: int
  low_us: float
  high_us: float
  compile_seconds: float | None = None

  def __str__(self) -> str:
    return (
      f"{self.p50_us:,.1f} us (rounds {self.low_us:,.1f} to "
      f"{self.high_us:,.1f}), p90 {self.p90_us:,.1f}, p99 {self.p99_us:,.1f}"
    )


def latency(
  program: Callable[..., Any] | str | os.PathLike,
  *inputs: Any,
  calls: int = 200,
  rounds: int = 4,
) -> Latency:
  """Times one program; see `latencies`.

  Args:
    program: a function, compiled for its inputs if there are any; or the path
      of a `.tflite`, `.onnx` or `.stablehlo` file, which gets random inputs
      and, but for the last, one thread.
    *inputs: of the function.
    calls: see `latencies`.
    rounds: see `latencies`.

  Raises:
    UserError: the file is none that can be run.
  """
  seconds = None
  if isinstance(program, str | os.PathLike):
    call = inference(program)
  elif inputs:
    lower = getattr(program, "lower", None) or jax.jit(program).lower
    start = time.perf_counter()
    compiled = lower(*inputs).compile()
    seconds = time.perf_counter() - start
    call = lambda: compiled(*inputs)  # noqa: E731
  else:
    call = program
  (found,) = latencies([call], calls=calls, rounds=rounds)
  return dataclasses.replace(found, compile_seconds=seconds)


def latencies(
  functions: Sequence[Callable[[], Any]], *, calls: int = 200, rounds: int = 4
) -> list[Latency]:
  """Times callables in turns, so that a machine's drift meets all alike.

  Args:
    functions: each is one inference; what it returns is waited for.
    calls: of each function at least, the same number in every round, after a
      tenth of that to warm up.
    rounds: how often the turn comes to each function.
  """
  times: list[list[float]] = [[] for _ in functions]
  each = max(1, math.ceil(calls / rounds))
  for _ in range(rounds):
    for function, own in zip(functions, times, strict=True):
      for _ in range(max(1, each // 10)):
        jax.block_until_ready(function())
      for _ in range(each):
        start = time.perf_counter_ns()
        jax.block_until_ready(function())
        own.append((time.perf_counter_ns() - start) / 1e3)
  return [_latency(np.reshape(own, (rounds, each))) for own in times]


def _latency(times: np.ndarray) -> Latency:
  """Returns what `rounds calls` of microseconds come to."""
  p50, p90, p99 = (float(p) for p in np.percentile(times, (50, 90, 99)))
  medians = np.median(times, axis=1)
  low, high = float(medians.min()), float(medians.max())
  return Latency(p50, p90, p99, times.size, low, high)
