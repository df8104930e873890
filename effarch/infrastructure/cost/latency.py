"""Latency of any callable, in percentiles."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Latency:
  """Microseconds a call: the median, tails, and how many calls were timed."""

  p50_us: float
  p90_us: float
  p99_us: float
  calls: int


def latency(
  call: Callable[[], Any], *, calls: int = 200, rounds: int = 4
) -> Latency:
  """Times one callable; see `latencies`."""
  return latencies([call], calls=calls, rounds=rounds)[0]


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
  percentiles = [np.percentile(own, (50, 90, 99)) for own in times]
  return [
    Latency(float(p50), float(p90), float(p99), each * rounds)
    for p50, p90, p99 in percentiles
  ]
