"""What a model costs: the survey's numbers, and closed forms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from effarch.architectures.models import SurveyCNN
from effarch.infrastructure.cost import count, measure
from effarch.infrastructure.training import (
  State,
  classification_loss,
  make_steps,
)
from effarch.infrastructure.training import mesh as meshes
from effarch.learning.augment import FlipTranslate
from effarch.learning.smooth import LabelSmoothing


def image(batch=1):
  return jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.float32)


def survey_cnn(**kwargs):
  """The model of 32x32x3 images and ten classes, by its shapes alone."""

  def make():
    return SurveyCNN((32, 32, 3), 10, rngs=nnx.Rngs(0), **kwargs)

  model = nnx.eval_shape(make)
  model.eval()
  return model


@pytest.mark.parametrize(
  ("width", "published"), [(0.05, 14_713), (1.0, 1_343_018)]
)
def test_survey_counts_parameters_and_statistics(width, published):
  cost = measure(survey_cnn(width_multiplier=width), image())
  assert cost.params + cost.statistics == published
  # BatchNorm keeps a mean and a variance of each channel.
  wide, wider = round(64 * width), round(128 * width)
  assert cost.statistics == 2 * (2 * 32 + 2 * wide + 2 * wider)
  assert cost.size_bytes == 4 * published


def test_survey_cnn_macs_in_closed_form():
  channels = (3, 32, 32, 64, 64, 128, 128)
  sides = (32, 32, 16, 16, 8, 8)  # A pool halves them after each pair.
  macs = sum(
    side * side * 3 * 3 * inputs * outputs
    for side, inputs, outputs in zip(
      sides, channels, channels[1:], strict=False
    )
  )
  macs += 4 * 4 * 128 * 512 + 512 * 10
  assert measure(survey_cnn(), image()).macs == macs
  assert measure(survey_cnn(), image(batch=7)).macs == 7 * macs


def test_separable_survey_cnn_macs_in_closed_form():
  macs = 32 * 32 * 9 * 3 * 32  # The first stays standard.
  pairs = (
    (32, 32, 32),
    (16, 32, 64),
    (16, 64, 64),
    (8, 64, 128),
    (8, 128, 128),
  )
  macs += sum(side * side * (9 * i + i * o) for side, i, o in pairs)
  macs += 4 * 4 * 128 * 512 + 512 * 10
  model = survey_cnn(convolution="separable")
  assert measure(model, image()).macs == macs


def test_shapes_tell_what_a_real_model_costs():
  real = SurveyCNN((32, 32, 3), 10, width_multiplier=0.05, rngs=nnx.Rngs(0))
  real.eval()
  before = jax.tree.map(jnp.copy, nnx.state(real))
  by_shape = measure(survey_cnn(width_multiplier=0.05), image())
  found = measure(real, jnp.zeros((1, 32, 32, 3)))
  for name, number in by_shape.numbers().items():
    assert getattr(found, name) == number
  assert jax.tree.all(jax.tree.map(jnp.array_equal, before, nnx.state(real)))


class Dense(nnx.Module):
  def __init__(self, inputs, hidden, outputs, *, rngs):
    self.hidden = nnx.Linear(inputs, hidden, rngs=rngs)
    self.out = nnx.Linear(hidden, outputs, use_bias=False, rngs=rngs)

  def __call__(self, x):
    return self.out(nnx.relu(self.hidden(x)))


class LinenDense(nn.Module):
  hidden_size: int
  outputs: int

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Dense(self.hidden_size, name="hidden")(x))
    return nn.Dense(self.outputs, use_bias=False, name="out")(x)


def plain_dense(params, x):
  with jax.named_scope("hidden"):
    x = x @ params["hidden"]["kernel"] + params["hidden"]["bias"]
  x = jax.nn.relu(x)
  with jax.named_scope("out"):
    return x @ params["out"]["kernel"]


def dense_of_each_kind(inputs, hidden, outputs):
  """The same net three times, with what `measure` needs beside the input."""
  module = LinenDense(hidden, outputs)
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.ones((1, inputs)))
  net = nnx.eval_shape(lambda: Dense(inputs, hidden, outputs, rngs=nnx.Rngs(0)))
  return [
    (net, None),
    (net.__call__, None),
    (module, None),
    (module, shapes),
    (module.apply, shapes),
    (plain_dense, shapes["params"]),
    (lambda net, x: net(x), net),
  ]


@settings(max_examples=15)
@given(*[st.integers(1, 9)] * 4)
def test_dense_net_of_any_kind_in_closed_form(batch, inputs, hidden, outputs):
  params = inputs * hidden + hidden + hidden * outputs
  first, second = batch * inputs * hidden, batch * hidden * outputs
  x = jax.ShapeDtypeStruct((batch, inputs), jnp.float32)
  for model, variables in dense_of_each_kind(inputs, hidden, outputs):
    report = measure(model, x, variables=variables)
    assert (report.params, report.statistics) == (params, 0)
    assert report.size_bytes == report.stored_bytes == 4 * params
    assert report.macs == report.effective_macs == first + second
    # A bias and a ReLU for each hidden unit.
    assert report.flops == 2 * report.macs + 2 * batch * hidden
    assert report.bit_operations == 32 * 32 * report.macs
    rows = report.by_module
    assert list(rows) == ["", "hidden", "out"]
    assert (rows["hidden"].macs, rows["out"].macs) == (first, second)
    assert rows["hidden"].params == inputs * hidden + hidden
    assert rows[""].own.flops == batch * hidden
    step = measure(model, x, variables=variables, train=True)
    # Three times the forward pass, less the first layer's input gradient.
    assert step.macs == 3 * report.macs - first
    assert step.by_module["hidden"].macs == 2 * first
    assert step.by_module["out"].macs == 3 * second


def test_bytes_are_those_of_the_types_in_memory():
  x = jax.ShapeDtypeStruct((1, 3), jnp.bfloat16)
  half = nnx.Linear(3, 5, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  assert measure(half, x).size_bytes == 2 * (3 * 5 + 5)
  # A computation in another type leaves the parameters what they are.
  mixed = nnx.Linear(3, 5, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  assert measure(mixed, x).size_bytes == 4 * (3 * 5 + 5)


class Tied(nnx.Module):
  def __init__(self, rngs):
    self.first = self.second = nnx.Linear(4, 4, use_bias=False, rngs=rngs)

  def __call__(self, x):
    return self.second(self.first(x))


def test_shared_parameters_are_held_once_and_used_twice():
  cost = measure(Tied(nnx.Rngs(0)), jnp.ones((1, 4)))
  assert (cost.params, cost.macs) == (16, 32)


class Dropped(nnx.Module):
  def __init__(self, rngs):
    self.dense = nnx.Linear(4, 4, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return self.dropout(self.dense(x))


@pytest.mark.parametrize("training", [False, True])
def test_random_state_is_no_statistic(training):
  model = Dropped(nnx.Rngs(0))
  model.train() if training else model.eval()
  cost = measure(model, jnp.ones((1, 4)))
  assert (cost.params, cost.statistics, cost.size_bytes) == (20, 0, 80)


class Spectral(nnx.Module):
  def __call__(self, x):
    return jax.pure_callback(jnp.sin, x, x)


def test_unknown_primitive_is_listed():
  report = measure(Spectral(), jnp.ones((1, 4)))
  assert report.unknown == {"pure_callback": 1}
  assert "not counted: pure_callback x1" in str(report)


class Endless(nnx.Module):
  def __call__(self, x):
    return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x)


def test_loop_that_shapes_cannot_count_is_refused():
  with pytest.raises(ValueError, match="while_loop"):
    measure(Endless(), jnp.ones((1, 4)))
  # Three divisions of four numbers, four sums over them.
  told = measure(Endless(), jnp.ones((1, 4)), while_turns=3)
  assert told.flops == 3 * 4 + 4 * 4


@pytest.mark.parametrize("convolution", ["standard", "separable"])
def test_training_step_holds_nothing_unknown(convolution):
  def make():
    return SurveyCNN((8, 8, 3), 4, convolution=convolution, rngs=nnx.Rngs(0))

  model = nnx.eval_shape(make)
  model.train()
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))

  def array(*shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype)

  step = array(dtype=jnp.int32)
  state = State(step, params, rest, jax.eval_shape(tx.init, params))
  techniques = [FlipTranslate(), LabelSmoothing()]
  steps = make_steps(
    graphdef,
    tx,
    techniques,
    classification_loss,
    4,
    meshes.data_mesh(),
    total_steps=10,
  )
  images = array(20, 8, 8, 3, dtype=jnp.uint8)
  data = images, array(20, dtype=jnp.int32), {}
  key = jax.eval_shape(lambda: jax.random.key(0))
  one, two = (
    count(steps, state, data, array(k, 8, dtype=jnp.int32), key) for k in (1, 2)
  )
  assert one.unknown == two.unknown == {}
  assert two.macs == 2 * one.macs > 0
