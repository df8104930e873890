"""Where modules lie under given ceilings, and that ceilings are measured."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.cost import (
  Ceilings,
  Cost,
  ceilings,
  measure,
  report,
)
from effarch.infrastructure.cost import roofline as module
from effarch.infrastructure.cost.roofline import Place, Roofline

X = jnp.ones((64, 32))


def device(flops, moved):
  return Ceilings("toy", "float32", flops, moved)


class Net(nnx.Module):
  """One module that computes much, one that only moves."""

  def __init__(self, rngs):
    self.dense = nnx.Linear(32, 32, use_bias=False, rngs=rngs)
    self.norm = nnx.BatchNorm(32, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return self.drop(self.norm(self.dense(x)))


positive = st.integers(1, 10**6)


@given(positive, positive, positive, positive, positive)
def test_time_is_that_of_the_slower(flops, read, written, speed, width):
  found = device(float(speed), float(width))
  cost = Cost(flops=flops, bytes_read=read, bytes_written=written)
  times = {"compute": flops / speed, "memory": (read + written) / width}
  assert found.least_seconds(cost) == max(times.values())
  assert times[found.bound(cost)] == pytest.approx(max(times.values()))
  assert found.ridge == speed / width


def test_modules_are_placed_by_what_they_do_themselves():
  report = measure(Net(nnx.Rngs(0)), X)
  dense = report.by_module["dense"]
  ridge = dense.intensity / 2
  found = report.roofline(device(1e9 * ridge, 1e9))
  # What does nothing in evaluation has no place.
  assert [place.path for place in found.places] == ["dense", "norm"]
  first, second = found.places
  assert (first.bound, second.bound) == ("compute", "memory")
  assert first.least_us == pytest.approx(dense.flops / ridge / 1e3)
  norm = report.by_module["norm"].own
  moved = norm.bytes_read + norm.bytes_written
  assert second.least_us == pytest.approx(moved / 1e3)
  assert found.least_us == pytest.approx(first.least_us + second.least_us)
  assert first.share + second.share == pytest.approx(1)
  assert first.intensity == dense.intensity


def test_whole_is_bound_by_what_takes_most_time():
  report = measure(Net(nnx.Rngs(0)), X)
  assert report.roofline(device(1.0, 1e12)).bound == "compute"
  assert report.roofline(device(1e12, 1.0)).bound == "memory"


def test_measured_latency_is_compared_with_the_least():
  report = measure(Net(nnx.Rngs(0)), X)
  toy = device(1e9, 1e9)
  assert report.roofline(toy).measured_us is None
  measured = report.latency.p50_us
  found = report.roofline(toy)
  assert found.measured_us == measured
  told = str(found)
  assert f"{found.least_us / measured:.0%} of the ceilings" in told
  assert f"bound by {found.bound}" in told
  assert "1 GFLOP/s" in told
  lines = told.split("\n")
  # The slowest module first.
  order = [
    line.split()[0]
    for line in lines
    if line.strip().startswith(("dense", "norm"))
  ]
  least = {place.path: place.least_us for place in found.places}
  assert order == sorted(least, key=lambda path: -least[path])


def test_ceilings_are_the_fastest_of_many_calls(monkeypatch):
  clock = mock.Mock(now=0.0)
  waits = iter([100.0, 5.0, 2.0, 3.0])

  def wait():
    clock.now += next(waits)

  monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
  # Calls of 5, 2 and 3 seconds, after one that is not timed; the third begins
  # before the eight seconds are over.
  call = mock.Mock()
  call.return_value.block_until_ready = wait
  assert module._fastest(call, 8.0) == 2.0
  assert next(waits, None) is None


def test_this_devices_ceilings(monkeypatch):
  monkeypatch.setattr(module, "_SIDES", {"cpu": 64})
  monkeypatch.setattr(module, "_STREAMED_BYTES", 2**16)
  module.ceilings.cache_clear()
  found = ceilings(seconds=0.02)
  assert found is ceilings(seconds=0.02)
  module.ceilings.cache_clear()
  assert found.flops_per_second > 1e6
  assert found.bytes_per_second > 1e6
  assert found.dtype == "float32"
  assert dataclasses.asdict(found)["device"]


def test_only_the_slowest_of_many_are_shown():
  class Deep(nnx.Module):
    def __init__(self, rngs):
      self.layers = nnx.List([nnx.Linear(32, 32, rngs=rngs) for _ in range(25)])

    def __call__(self, x):
      for layer in self.layers:
        x = layer(x)
      return x

  told = str(measure(Deep(nnx.Rngs(0)), X).roofline(device(1e9, 1e9)))
  assert told.count("layers.") == 20
  assert "and 5 more, 20.0%" in told


def test_ceilings_are_those_of_the_type_that_does_most(monkeypatch):
  class Half(nnx.Module):
    def __init__(self, rngs):
      self.dense = nnx.Linear(32, 32, dtype=jnp.bfloat16, rngs=rngs)
      self.head = nnx.Linear(32, 2, rngs=rngs)

    def __call__(self, x):
      x = self.dense(x).astype(jnp.float32)
      return x.argmax(-1), self.head(x)

  def looped(x):
    half = x.astype(jnp.bfloat16)
    turn = lambda y, _: (half @ (half.T @ y), None)  # noqa: E731
    return jax.lax.scan(turn, half, None, length=9)[0].sum() + (x @ x.T).sum()

  asked = []

  def measured(dtype):
    asked.append(dtype)
    return device(1e9, 1e9)

  monkeypatch.setattr(report, "measured_ceilings", measured)
  measure(Half(nnx.Rngs(0)), X).roofline()
  for function in (lambda x: x @ x.T > 0, looped, jnp.tanh):
    measure(function, X).roofline()
  assert asked == ["bfloat16", "float32", "bfloat16", "float32"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ceilings_are_work_by_time(monkeypatch, dtype):
  monkeypatch.setattr(module, "_SIDES", {"cpu": 64})
  monkeypatch.setattr(module, "_STREAMED_BYTES", 2**16)
  made = []

  def fastest(call, seconds):
    assert seconds == 0.5
    made.append([call(), call()][-1])
    return {1: 2.0, 2: 0.25}[len(made)]

  monkeypatch.setattr(module, "_fastest", fastest)
  module.ceilings.cache_clear()
  found = ceilings(dtype, seconds=0.5)
  module.ceilings.cache_clear()
  product, stream = made
  assert product.shape == (64, 64)
  assert product.dtype.name == found.dtype == dtype
  # A product and a sum for each of 64 cubed, in two seconds.
  assert found.flops_per_second == 64**3
  # Each of the bytes is read and written.
  assert stream.nbytes == 2**16
  assert found.bytes_per_second == 2 * 2**16 * 4


def test_large_enough_to_be_measured():
  assert module._SIDES["cpu"] >= 1024
  assert module._STREAMED_BYTES >= 2**28


def test_places_are_of_what_modules_do_themselves():
  class Outer(nnx.Module):
    def __init__(self, rngs):
      self.net = Net(rngs)

    def __call__(self, x):
      return self.net(x).T  # Moves, and computes nothing.

  found = measure(Outer(nnx.Rngs(0)), X).roofline(device(1e9, 1e9))
  places = {place.path: place for place in found.places}
  assert set(places) == {"", "net.dense", "net.norm"}
  assert places[""].bound == "memory"
  assert places[""].least_us == pytest.approx(2 * X.nbytes / 1e3)
  line = next(t for t in str(found).split("\n") if "(own)" in t)
  assert f"{places[''].share:.1%}" in line
  assert "1.0 GB/s" in str(found)


def test_what_bounds_more_than_half_bounds_the_whole():
  places = [
    Place(str(share), 1.0, share, share / 10, bound)
    for share, bound in ((4.0, "memory"), (6.0, "compute"))
  ]
  toy = device(1e9, 1e9)
  assert Roofline(toy, tuple(places), 10.0, None).bound == "compute"
  swapped = [dataclasses.replace(p, share=1 - p.share) for p in places]
  assert Roofline(toy, tuple(swapped), 10.0, None).bound == "memory"
