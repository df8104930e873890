"""Where arrays are rounded, and where not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.architectures.models import MODELS
from effarch.compression.quantize import post_training
from effarch.compression.quantize.operations import _maximum
from effarch.compression.quantize.traced import Traced
from effarch.infrastructure.export import convert
from effarch.infrastructure.runtime import LiteRTModel


class Plain(nnx.Module):
  """A function of one array and one weight."""

  def __init__(self, function):
    self.kernel = nnx.Param(jnp.linspace(-1, 1, 16).reshape(4, 4))
    self.function = function

  def __call__(self, x):
    return self.function(x, self.kernel[...])


def makers(function, shape=(2, 3, 4)):
  """Returns what makes each array that is rounded, by sites."""
  example = jax.ShapeDtypeStruct(shape, jnp.float32)
  program = Traced(Plain(function), example).program
  return [[value.maker for value in site.makers] for site in program.sites]


@pytest.mark.parametrize(
  ("function", "expected"),
  [
    (lambda x, w: x @ w, [[""], ["dot_general"]]),
    # Bias and activation are part of the product.
    (lambda x, w: jax.nn.relu(x @ w + w[0]), [[""], ["relu"]]),
    # What is added to each place is no bias.
    (lambda x, w: x @ w + w[:3], [[""], ["dot_general"], ["add"]]),
    (lambda x, w: (x @ w + w[0]) * w[1], [[""], ["add"], ["mul"]]),
    # What two read is there for both.
    (
      lambda x, w: jax.nn.relu(x @ w) + (y := x @ w) * y,
      [[""], ["relu"], ["dot_general"], ["mul"], ["add"]],
    ),
    (lambda x, w: (x @ w).mean(1), [[""], ["dot_general"], ["div"]]),
    # What only moves numbers keeps their scale.
    (lambda x, w: x.reshape(6, 4).T[:4].T @ w, [[""], ["dot_general"]]),
    (lambda x, w: (x @ w).max(1), [[""], ["dot_general"]]),
    (
      lambda x, w: jnp.concatenate([x @ w, (x * 2) @ w], 1),
      [[""], ["dot_general", "dot_general"], ["mul"]],
    ),
    # A sigmoid's range is not changed, so its scale is its own.
    (
      lambda x, w: jnp.concatenate([jax.nn.sigmoid(x @ w), x], 1) @ w,
      [[""], ["dot_general"], ["logistic"], ["concatenate"], ["dot_general"]],
    ),
    # Normalization, softmax and other functions stay in float.
    (
      lambda x, w: jax.nn.standardize(x @ w) @ w,
      [[""], ["dot_general"], ["mul"], ["dot_general"]],
    ),
    (
      lambda x, w: jax.nn.softmax(x @ w) @ w,
      [[""], ["dot_general"], ["div"], ["dot_general"]],
    ),
    (lambda x, w: jnp.sin(x @ w) * 2, [[""], ["dot_general"]]),
    (lambda x, w: jax.nn.sigmoid(x @ w), [[""], ["dot_general"], ["logistic"]]),
    (lambda x, w: x * jnp.sin(w[0]), [[""], ["mul"]]),
  ],
)
def test_arrays_of_integer_operations_are_rounded(function, expected):
  found = makers(function)
  assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_weights_are_named_by_their_parameters():
  model = Plain(lambda x, w: jnp.tanh(x @ w) @ (w.T * 2))
  layers = Traced(model, jax.ShapeDtypeStruct((2, 4), jnp.float32)).layers
  assert [layer.names for layer in layers] == [["kernel"], ["kernel"]]
  # What two read is no layer's own.
  assert [layer.kernel for layer in layers] == [None, None]
  model = Plain(lambda x, w: jnp.tanh(x @ w))
  (layer,) = Traced(model, jax.ShapeDtypeStruct((2, 4), jnp.float32)).layers
  assert layer.kernel == 0


@pytest.mark.parametrize("axes", [(1,), (0, 2), (1, 2)])
def test_a_maximums_gradient_is_jaxs(axes):
  x = jax.random.permutation(jax.random.key(0), 60).reshape(3, 4, 5) * 1.0
  weights = jnp.sin(jnp.arange(x.max(axes).size)).reshape(x.max(axes).shape)
  found = jax.grad(lambda x: (_maximum(x, axes) * weights).sum())(x)
  expected = jax.grad(lambda x: (x.max(axes) * weights).sum())(x)
  chex.assert_trees_all_equal(found, expected)


def test_of_equals_the_first_gets_the_gradient():
  found = jax.grad(lambda x: _maximum(x, (0,)))(jnp.ones(3))
  np.testing.assert_array_equal(found, [1, 0, 0])


@pytest.mark.parametrize(
  ("name", "arguments", "floats"),
  [
    ("mobilenet_v2", {"width_multiplier": 0.1, "stem": "small"}, []),
    ("resnet_20_cifar_option_a", {"width_multiplier": 0.25}, []),
    (
      "vision_transformer",
      {"patch_size": 8, "features": 16, "depth": 1, "num_heads": 2},
      ["BATCH_MATMUL", "EXP", "MEAN", "RSQRT"],
    ),
  ],
)
def test_networks_files_answer_as_the_model(name, arguments, floats):
  model = fold(MODELS[name]((16, 16, 3), 4, rngs=nnx.Rngs(0), **arguments))
  x = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
  rounded = post_training(model, [x])
  graphdef, state = nnx.split(rounded)
  expected = jax.jit(lambda s, x: nnx.merge(graphdef, s)(x))(state, x)
  file = LiteRTModel(
    convert(rounded, jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32))
  )
  found = file(np.asarray(x))
  assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
  assert set(floats) <= set(file.float_operators())
  assert floats or not file.float_operators()
