"""Latencies by a clock that only the timed functions turn."""

import importlib
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.cost import latencies, latency

# The package's `latency` is the function.
module = importlib.import_module("effarch.infrastructure.cost.latency")


class Clock:
  """Stands still until a function or its answer takes time."""

  def __init__(self, monkeypatch):
    self.now = 0
    self.readings = 0
    monkeypatch.setattr(time, "perf_counter_ns", self.read)

  def read(self):
    self.readings += 1
    return self.now

  def sleep(self, microseconds):
    self.now += round(1000 * microseconds)


@pytest.fixture
def clock(monkeypatch):
  return Clock(monkeypatch)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60))
def test_percentiles_are_those_of_the_timed_calls(durations):
  with pytest.MonkeyPatch.context() as monkeypatch:
    clock = Clock(monkeypatch)
    # One call warms up for every ten that are timed, and one at least.
    warm = [10**9] * max(1, len(durations) // 10)
    coming = iter([*warm, *durations])
    found = latency(
      lambda: clock.sleep(next(coming)), calls=len(durations), rounds=1
    )
  assert next(coming, None) is None
  assert found.calls == len(durations)
  assert min(durations) <= found.p50_us <= found.p90_us <= found.p99_us
  assert found.p99_us <= max(durations)
  exact = np.percentile(durations, (50, 90, 99))
  np.testing.assert_allclose(
    (found.p50_us, found.p90_us, found.p99_us), exact, rtol=1e-9
  )


def test_a_hundred_known_durations(clock):
  coming = iter([0] * 10 + list(range(101)))
  found = latency(lambda: clock.sleep(next(coming)), calls=101, rounds=1)
  assert (found.p50_us, found.p90_us, found.p99_us) == (50, 90, 99)


def test_compiling_is_over_before_the_clock_is_read(clock):
  read_before = []

  def call():
    read_before.append(clock.readings)
    clock.sleep(3 if clock.readings else 10**6)

  assert latency(call, calls=4, rounds=1).p99_us == 3
  # The first warms up; each timed one has its own start read, and the ends of
  # those before it.
  assert read_before == [0, 1, 3, 5, 7]


def test_functions_take_turns_in_each_round(clock):
  order = []
  functions = [lambda name=name: order.append(name) for name in "abc"]
  found = latencies(functions, calls=40, rounds=4)
  # One warms up and ten are timed.
  assert "".join(order) == ("a" * 11 + "b" * 11 + "c" * 11) * 4
  assert [latency.calls for latency in found] == [40, 40, 40]
  assert clock.readings == 2 * 3 * 40


def test_drift_meets_all_functions_alike(clock):
  slowness = {"now": 0.0}

  def call():
    slowness["now"] += 1  # The machine slows down with every call.
    clock.sleep(slowness["now"])

  one, other = latencies([call, call], calls=100, rounds=50)
  assert abs(one.p50_us - other.p50_us) < 0.05 * one.p50_us
  slowness["now"] = 0.0
  one, other = latencies([call, call], calls=100, rounds=1)
  assert other.p50_us > 2 * one.p50_us  # As it is without turns


@pytest.mark.parametrize(
  ("calls", "rounds", "timed"), [(10, 4, 12), (8, 4, 8), (1, 3, 3), (5, 1, 5)]
)
def test_as_many_calls_as_asked_in_equal_rounds(clock, calls, rounds, timed):
  times = []
  found = latency(
    lambda: times.append(clock.readings), calls=calls, rounds=rounds
  )
  assert found.calls == timed == clock.readings / 2
  assert len(times) == timed + rounds  # One to warm up in each round


def test_answers_are_waited_for(clock):
  class Answer:
    def block_until_ready(self):
      clock.sleep(7)
      return self

  found = latencies([lambda: {"logits": Answer()}, lambda: 1], calls=8)
  assert [times.p50_us for times in found] == [7, 0]


def test_functions_keep_their_places(clock):
  waits = (5, 1, 3)
  functions = [lambda wait=wait: clock.sleep(wait) for wait in waits]
  assert tuple(times.p50_us for times in latencies(functions)) == waits


def test_spread_is_that_of_the_rounds_medians(clock):
  # Two rounds of three calls, each after one that warms up.
  coming = iter([0, 1, 2, 9, 0, 5, 6, 7])
  found = latency(lambda: clock.sleep(next(coming)), calls=6, rounds=2)
  assert (found.low_us, found.high_us) == (2, 6)
  assert found.p50_us == 5.5
  assert str(found).startswith("5.5 us (rounds 2.0 to 6.0)")


def test_function_is_compiled_before_it_is_timed():
  traces = []

  def function(x):
    traces.append(x)
    return x * 2

  found = latency(function, jnp.ones(3), calls=20)
  assert len(traces) == 1
  assert found.compile_seconds > 0
  assert found.calls == 20
  assert latency(lambda: 3, calls=1).compile_seconds is None
  jitted = jax.jit(lambda x, *, scale=3: x * scale)
  assert latency(jitted, jnp.ones(3), calls=4).compile_seconds > 0


def test_files_are_timed_by_the_same_call(monkeypatch, clock):
  asked = []

  def inference(path):
    asked.append(path)
    return lambda: clock.sleep(3)

  monkeypatch.setattr(module, "inference", inference)
  assert latency("a.tflite", calls=4).p50_us == 3
  assert latency(pathlib.Path("b.onnx"), calls=4).compile_seconds is None
  assert asked == ["a.tflite", pathlib.Path("b.onnx")]


def test_compiling_is_timed(monkeypatch):
  clock = {"now": 0.0}
  monkeypatch.setattr(module.time, "perf_counter", lambda: clock["now"])

  def function(x):
    clock["now"] += 7  # It is traced once.
    return x + 1

  assert latency(function, jnp.ones(3), calls=4).compile_seconds == 7


def test_warming_up_is_waited_for_too():
  waited = []

  class Answer:
    def block_until_ready(self):
      waited.append(self)
      return self

  assert latency(Answer, calls=20, rounds=2).calls == 20
  assert len(waited) == 20 + 2
