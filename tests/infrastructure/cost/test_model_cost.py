"""What a model costs: the survey's numbers, and closed forms."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from effarch.architectures.models import SurveyCNN
from effarch.infrastructure.cost import ModelCost, count, model_cost
from effarch.infrastructure.training import (
  State,
  classification_loss,
  make_steps,
)
from effarch.infrastructure.training import mesh as meshes
from effarch.learning import FlipTranslate, LabelSmoothing


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
  cost = model_cost(survey_cnn(width_multiplier=width), image())
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
  assert model_cost(survey_cnn(), image()).macs == macs
  assert model_cost(survey_cnn(), image(batch=7)).macs == 7 * macs


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
  assert model_cost(model, image()).macs == macs


def test_shapes_tell_what_a_real_model_costs():
  real = SurveyCNN((32, 32, 3), 10, width_multiplier=0.05, rngs=nnx.Rngs(0))
  real.eval()
  before = jax.tree.map(jnp.copy, nnx.state(real))
  by_shape = model_cost(survey_cnn(width_multiplier=0.05), image())
  assert model_cost(real, jnp.zeros((1, 32, 32, 3))) == by_shape
  assert jax.tree.all(jax.tree.map(jnp.array_equal, before, nnx.state(real)))


@given(*[st.integers(1, 9)] * 4)
def test_dense_layer_in_closed_form(batch, inputs, hidden, outputs):
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.hidden = nnx.Linear(inputs, hidden, rngs=rngs)
      self.out = nnx.Linear(hidden, outputs, use_bias=False, rngs=rngs)

    def __call__(self, x):
      return self.out(nnx.relu(self.hidden(x)))

  params = inputs * hidden + hidden + hidden * outputs
  macs = batch * (inputs * hidden + hidden * outputs)
  x = jax.ShapeDtypeStruct((batch, inputs), jnp.float32)
  assert model_cost(nnx.eval_shape(lambda: Net(nnx.Rngs(0))), x) == ModelCost(
    params=params,
    statistics=0,
    size_bytes=4 * params,
    macs=macs,
    flops=2 * macs + 2 * batch * hidden,  # Bias and ReLU
  )


def test_bytes_are_those_of_the_types_in_memory():
  x = jax.ShapeDtypeStruct((1, 3), jnp.bfloat16)
  half = nnx.Linear(3, 5, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  assert model_cost(half, x).size_bytes == 2 * (3 * 5 + 5)
  # A computation in another type leaves the parameters what they are.
  mixed = nnx.Linear(3, 5, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  assert model_cost(mixed, x).size_bytes == 4 * (3 * 5 + 5)


class Tied(nnx.Module):
  def __init__(self, rngs):
    self.first = self.second = nnx.Linear(4, 4, use_bias=False, rngs=rngs)

  def __call__(self, x):
    return self.second(self.first(x))


def test_shared_parameters_are_held_once_and_used_twice():
  cost = model_cost(Tied(nnx.Rngs(0)), jnp.ones((1, 4)))
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
  cost = model_cost(model, jnp.ones((1, 4)))
  assert (cost.params, cost.statistics, cost.size_bytes) == (20, 0, 80)


class Spectral(nnx.Module):
  def __call__(self, x):
    return jnp.fft.fft(x).real


def test_unknown_primitive_is_refused_by_name():
  with pytest.raises(ValueError, match=r"without a cost: \['fft'\]"):
    model_cost(Spectral(), jnp.ones((1, 4)))


class Endless(nnx.Module):
  def __call__(self, x):
    return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x)


def test_loop_that_shapes_cannot_count_is_refused():
  with pytest.raises(ValueError, match="while_loop"):
    model_cost(Endless(), jnp.ones((1, 4)))


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
    graphdef, tx, techniques, classification_loss, 4, meshes.data_mesh()
  )
  data = array(20, 8, 8, 3, dtype=jnp.uint8), array(20, dtype=jnp.int32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  one, two = (
    count(steps, state, data, array(k, 8, dtype=jnp.int32), key) for k in (1, 2)
  )
  assert one.unknown == two.unknown == {}
  assert two.macs == 2 * one.macs > 0
