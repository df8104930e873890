"""Compiled programs: memory, latency, and what is left untouched."""

import pathlib
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from benchmarks.networks import GPT2
from effarch.infrastructure.cost import executable, measure

ROOT = pathlib.Path(__file__).parents[3]
X = jnp.ones((64, 256))


class Net(nnx.Module):
  def __init__(self, rngs):
    self.up = nnx.Linear(256, 512, rngs=rngs)
    self.norm = nnx.BatchNorm(512, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.down = nnx.Linear(512, 256, rngs=rngs)

  def __call__(self, x):
    return self.down(self.drop(nnx.relu(self.norm(self.up(x)))))


@pytest.fixture
def model():
  return Net(nnx.Rngs(0))


def compilations(function):
  """How many programs the backend compiles while a function runs."""
  found = []

  def listen(event, seconds, **_):
    del seconds
    if "backend_compile" in event:
      found.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    function()
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  return len(found)


def test_counting_does_not_compile_and_its_latency_does(model):
  reports = []
  assert compilations(lambda: reports.append(measure(model, X))) == 0
  step = lambda: measure(model, X, train=True, optimizer=optax.adam(0.1))  # noqa: E731
  assert compilations(step) == 0
  assert compilations(lambda: reports[0].latency) > 0
  assert compilations(lambda: reports[0].latency) == 0


def test_peak_holds_arguments_results_and_temporaries(model):
  report = measure(model, X)
  arguments = report.size_bytes + X.nbytes
  out, hidden = X.nbytes, 64 * 512 * 4
  # The hidden layer needs a place, and no three of them.
  assert arguments + out + hidden <= report.peak_bytes
  assert report.peak_bytes < arguments + out + 3 * hidden


def test_peak_of_a_training_step_holds_the_optimizers_state_once(model):
  plain = measure(model, X, train=True)
  adam = measure(model, X, train=True, optimizer=optax.adam(1e-3))
  # Gradients are results of the plain step. With Adam they are temporaries,
  # and parameters and moments are written where they were.
  grown = adam.peak_bytes - plain.peak_bytes
  assert grown <= adam.optimizer_bytes * 1.2
  assert adam.peak_bytes > adam.size_bytes + adam.optimizer_bytes


def test_latency_has_its_compile_time_apart(model):
  report = measure(model, X)
  assert report.latency.compile_seconds == report.compile_seconds > 0
  assert report.latency.p50_us < report.compile_seconds * 1e6
  assert report.latency is report.latency
  assert "latency" in report.summary()


@pytest.mark.parametrize("optimizer", [None, optax.adam(1e-2)])
def test_timed_step_trains_a_copy(model, optimizer):
  before = jax.tree.map(np.array, nnx.state(model, nnx.Param))
  report = measure(model, X, train=True, optimizer=optimizer)
  step = report.executable.call()
  results = [jax.tree.map(np.array, step()[0]) for _ in range(2)]
  changed = any(
    (a != b).any() for a, b in zip(*map(jax.tree.leaves, results), strict=True)
  )
  # Without an optimizer it ends at the gradient, the same each time.
  assert changed == (optimizer is not None)
  after = nnx.state(model, nnx.Param)
  assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, after)))


def test_program_computes_what_the_model_does(model):
  report = measure(model, X)
  model.eval()
  np.testing.assert_allclose(
    report.executable.call()(), model(X), rtol=1e-5, atol=1e-6
  )


def test_shapes_can_be_compiled_and_not_run():
  model = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
  shapes = jax.ShapeDtypeStruct(X.shape, X.dtype)
  report = measure(model, shapes)
  assert report.peak_bytes == measure(Net(nnx.Rngs(0)), X).peak_bytes
  with pytest.raises(ValueError, match="holds shapes only"):
    _ = report.latency
  # An input's shape is enough: what it holds makes no difference.
  assert measure(Net(nnx.Rngs(0)), shapes).latency.calls > 0


def test_live_peak_is_what_the_device_tells(model):
  def told(*peaks):
    report = measure(model, X)
    stats = [peak and {"peak_bytes_in_use": peak} for peak in peaks]
    device = mock.Mock(memory_stats=mock.Mock(side_effect=stats))
    runs = []
    call = report.executable.call()
    report.executable.call = lambda: lambda: runs.append(call())
    with mock.patch.object(executable.jax, "devices", lambda: [device]):
      found = report.live_peak_bytes
    # Nothing is run where nothing would be told.
    assert len(runs) == len(list(filter(None, peaks))) // 2
    return found

  assert told(100, 250) == 250
  # Something before had needed as much: this one's own peak is not known.
  assert told(300, 300) is None
  assert told(None) is None


def test_large_transformer_is_counted_without_weights():
  model = nnx.eval_shape(
    lambda: GPT2(
      layers=24, features=1024, num_heads=16, vocabulary=50257, rngs=nnx.Rngs(0)
    )
  )
  tokens = jax.ShapeDtypeStruct((1, 1024), jnp.int32)
  reports = []
  assert compilations(lambda: reports.append(measure(model, tokens))) == 0
  features, length = 1024, 1024
  block = 12 * features**2 * length + 2 * length**2 * features
  assert reports[0].macs == 24 * block + length * features * 50257


def test_seventy_billion_parameters_are_counted_in_little_memory():
  program = """
import pathlib
import jax
from flax import nnx
from benchmarks.networks import GPT2
from effarch.infrastructure.cost import measure

model = nnx.eval_shape(
  lambda: GPT2(
    layers=22, features=16384, num_heads=128, vocabulary=50257, rngs=nnx.Rngs(0)
  )
)
report = measure(model, jax.ShapeDtypeStruct((1, 1024), "int32"))
# Of this program alone: `ru_maxrss` starts with that of the one that began it.
status = pathlib.Path("/proc/self/status").read_text()
print(report.params, status.split("VmHWM:")[1].split()[0])
"""
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  params, kilobytes = map(int, done.stdout.split())
  assert params > 70e9
  assert kilobytes < 1e6
