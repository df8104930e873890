"""Calls as users write them: keywords, jit, caches, shards, twice."""

import functools
import importlib
import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from effarch.infrastructure.cost import measure
from effarch.testing import check_report

# The package's `measure` is the function.
module = importlib.import_module("effarch.infrastructure.cost.measure")

ROOT = pathlib.Path(__file__).parents[3]
X = jnp.ones((4, 8))
MACS = 4 * 8 * 8


class Inner(nnx.Module):
  def __init__(self, rngs):
    self.dense = nnx.Linear(8, 8, rngs=rngs)

  def __call__(self, x):
    return self.dense(x)


class Net(nnx.Module):
  def __init__(self, inner=Inner):
    self.first, self.second = inner(nnx.Rngs(0)), inner(nnx.Rngs(1))

  def __call__(self, x, mode="plain", *, bias=None, twice=False):
    x = jnp.tanh(self.first(x))
    x = self.second(x) if bias is None else self.second(x) + bias
    return 2 * x if twice or mode == "double" else x


PATHS = ["", "first", "first.dense", "second", "second.dense"]


@pytest.mark.parametrize("shapes", [False, True])
def test_arrays_in_keywords_are_inputs(shapes):
  x = jax.ShapeDtypeStruct(X.shape, X.dtype) if shapes else X
  by_keyword = functools.partial(Net(), x=x)
  for train in (False, True):
    plain = measure(Net(), X, train=train)
    keyword = measure(by_keyword, train=train)
    assert keyword.numbers() == plain.numbers()
    assert list(keyword.by_module) == PATHS
  assert measure(Net(), X).effective_macs == 2 * MACS
  bits = {"*": (2, 8)}
  assert measure(by_keyword, bits=bits).bit_operations == 2 * MACS * 16
  assert measure(by_keyword).latency.calls == 200
  biased = measure(functools.partial(Net(), bias=X[0], twice=True), X)
  assert biased.flops == measure(Net(), X).flops + 2 * X.size


def test_arguments_that_are_no_arrays_are_constants():
  plain = measure(Net(), X).flops
  assert measure(Net(), X, "double").flops == plain + X.size
  assert measure(functools.partial(Net(), X, "double")).flops == plain + X.size

  class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x, scale, twice=False):
      x = nn.Dense(8)(x) * scale
      return 2 * x if twice else x

  report = measure(Scaled(), X, 3.0, True)
  assert report.macs == MACS
  assert report.latency.calls == 200


@pytest.mark.parametrize("wrap", [jax.jit, nnx.jit])
def test_compiled_model_is_the_model(wrap):
  report = measure(wrap(Net()), X)
  assert list(report.by_module) == PATHS
  assert report.params == 2 * (64 + 8)


@pytest.mark.parametrize("wrap", [nnx.jit, nnx.remat])
@pytest.mark.parametrize("trained_first", [False, True])
def test_measuring_again_finds_the_same(wrap, trained_first):
  class Wrapped(Inner):
    @wrap
    def __call__(self, x):
      return self.dense(x)

  model = Net(Wrapped)
  model(X)
  first = measure(model, X, train=trained_first)
  again, other = measure(model, X), measure(Net(Wrapped), X)
  for report in (first, again, other):
    rows = report.by_module
    assert list(rows) == PATHS
    assert all(row.output == "4x8" for row in rows.values())
    assert rows["first.dense"].macs == rows["first"].macs > 0
    check_report(report)
  assert again.by_module == other.by_module


def test_caches_are_neither_weights_nor_statistics():
  class Cached(nnx.Module):
    def __init__(self):
      self.query = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
      self.keys = nnx.Cache(jnp.zeros((16, 8)))

    def __call__(self, x):
      self.keys[...] = self.keys[...].at[:4].set(x)
      return self.query(x) @ self.keys[...].T

  report = measure(Cached(), X)
  assert report.effective_macs == report.macs == MACS + 4 * 8 * 16
  assert (report.params, report.statistics) == (64 + 8, 0)
  assert measure(Cached(), X, bits={"*": (2, 8)}).bit_operations == (
    MACS * 16 + 4 * 8 * 16 * 64
  )


def test_linen_caches_and_other_random_numbers():
  class Cached(nn.Module):
    @nn.compact
    def __call__(self, x):
      keys = self.variable("cache", "keys", jnp.zeros, (16, 8))
      keys.value = keys.value.at[:4].set(x)
      noise = jax.random.normal(self.make_rng("noise"), x.shape)
      return nn.Dense(8)(x + noise) @ keys.value.T

  report = measure(Cached(), X)
  assert report.effective_macs == report.macs == MACS + 4 * 8 * 16
  assert report.statistics == 0


def test_scopes_in_scopes_are_rows_of_each():
  def function(params, x):
    for i in range(3):
      with jax.named_scope(f"layer_{i}/dense"):
        x = x @ params[f"layer_{i}"]["w"]
    return x

  params = {f"layer_{i}": {"w": jnp.ones((8, 8))} for i in range(3)}
  report = measure(function, X, variables=params)
  paths = [f"layer_{i}{inner}" for i in range(3) for inner in ("", ".dense")]
  assert list(report.by_module) == ["", *paths]
  assert report.by_module["layer_1"].params == 64
  assert report.by_module["layer_2"].macs == MACS
  check_report(report)


def test_kept_bytes_of_a_loop_belong_to_what_its_body_calls():
  class Cell(Inner):
    def __call__(self, x):
      return jnp.tanh(self.dense(x))

  class Recurrent(nnx.Module):
    def __init__(self):
      self.cell = Cell(nnx.Rngs(0))

    def __call__(self, x):
      @nnx.scan(in_axes=(None, nnx.Carry), out_axes=nnx.Carry, length=5)
      def loop(cell, x):
        return cell(x)

      return loop(self.cell, x)

  report = measure(Recurrent(), X, train=True)
  assert report.by_module["cell"].activation_bytes >= 5 * X.nbytes
  check_report(report)


def test_weight_gradient_multiplies_activations():
  w = jnp.ones((8, 8))
  report = measure(
    lambda w, x: x @ w, X, variables=w, train=True, bits={"*": (4, 8)}
  )
  # Forward a weight of 4 bits, backward two activations of 8.
  assert report.bit_operations == MACS * (4 * 8 + 8 * 8)


def test_loop_over_data_is_read_once():
  data = jnp.ones((300, 4, 8))

  def function(w):
    return jax.lax.scan(lambda w, x: (w + x.T @ x, None), w, data)[0]

  report = measure(function, jnp.ones((8, 8)))
  assert report.macs == report.effective_macs == 300 * MACS


@pytest.mark.parametrize(
  ("call", "told"),
  [
    (lambda: measure(Net, X), "Net is a class; make a module"),
    (
      lambda: measure(Net(), X, optimizer=optax.sgd(0.1)),
      "optimizer is of a training step; give train=True",
    ),
    (
      lambda: module._check_bits({"*": 8}),
      r"bits\['\*'\] is 8; give bits of weights and of activations",
    ),
  ],
)
def test_mistakes_are_told_with_their_mend(call, told):
  with pytest.raises((TypeError, ValueError), match=told):
    call()


@pytest.mark.parametrize("optimizer", ["None", "optax.adam(1e-2)"])
def test_sharded_model_runs_where_it_lies(optimizer):
  program = f"""
import jax, jax.numpy as jnp, optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from effarch.infrastructure.cost import measure

mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
def put(x, *axes):
  return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes)))

model = nnx.Linear(512, 512, use_bias=False, rngs=nnx.Rngs(0))
state = jax.tree.map(lambda x: put(x, "data"), nnx.state(model))
nnx.update(model, state)
x = put(jnp.ones((4, 512)))
step = dict(train=True, optimizer={optimizer})
for options in ({{}}, step):
  report = measure(model, x, **options)
  print(report.macs, report.latency.calls, report.peak_bytes)
"""
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  inference, step = (line.split() for line in done.stdout.splitlines())
  assert inference[:2] == [str(4 * 512**2), "200"]
  assert step[:2] == [str(2 * 4 * 512**2), "200"]
  # Half of the weights lies on each device.
  assert int(inference[2]) < 512 * 512 * 4


def test_types_that_python_numbers_have_stay():
  half = X.astype(jnp.bfloat16)
  report = measure(lambda x, scale: x * scale, half, 2.0)
  assert report.executable.call()().dtype == jnp.bfloat16
