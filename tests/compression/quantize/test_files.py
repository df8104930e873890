"""What LiteRT's kernels have no words for is rounded so that files agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import Conv
from effarch.architectures.low_rank import STRUCTURES, StructuredLinear
from effarch.compression.quantize import (
  Scheme,
  calibrate,
  equalize,
  post_training,
  round_weights,
)
from effarch.errors import UserError
from effarch.infrastructure.export import convert
from effarch.infrastructure.runtime import LiteRTModel
from tests.compression.quantize.nets import run


def normal(*shape, seed=0):
  return jax.random.normal(jax.random.key(seed), shape)


class Given(nnx.Module):
  """A function of an input and of arrays that are parameters."""

  def __init__(self, function, *arrays):
    self.function = function
    self.arrays = nnx.List([nnx.Param(array) for array in arrays])

  def __call__(self, x):
    return self.function(x, *(array[...] for array in self.arrays))


def agree(model, x, tolerance=0.03, **arguments):
  """Holds the file against the rounded model, and that against the model."""
  rounded = post_training(model, [one[None] for one in x], **arguments)
  expected = np.concatenate([run(rounded, one[None]) for one in x])
  example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
  found = LiteRTModel(convert(rounded, example))(np.asarray(x))
  most = np.abs(expected).max()
  assert most > 0
  assert np.abs(found - expected).max() < tolerance * most
  return np.abs(expected - run(model, x)).max() / most


MATRIX = normal(6, 6, seed=1)
PRODUCTS = {
  "a matrix for each head": (
    lambda x, w: jnp.einsum("btnc,ncd->btnd", x.reshape(*x.shape[:2], 2, 3), w),
    normal(2, 3, 5, seed=1),
  ),
  "from the left": (lambda x, w: w @ x, normal(4, 4, seed=1)),
  "of places": (
    lambda x, w: jnp.einsum("btc,ts->bsc", x, w),
    normal(4, 3, seed=1),
  ),
  "transposed": (lambda x, w: x @ w.T, MATRIX),
  "of two axes": (
    lambda x, w: jnp.einsum("btc,cnd->btnd", x, w),
    normal(6, 2, 3, seed=1),
  ),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_weights_without_scales_for_channels(name, dtype):
  function, weight = PRODUCTS[name]
  # Channels of all sizes, which one scale can't tell from several.
  weight = weight * jnp.logspace(-1, 1, weight.shape[-1])
  agree(Given(function, weight), normal(3, 4, 6), weights=Scheme(dtype))


@pytest.mark.parametrize(
  "name",
  ["block_diagonal", "butterfly", "grouped_shuffle", "low_rank", "monarch"],
)
def test_structures(name):
  structure = STRUCTURES[name](params_ratio=0.5)
  layer = StructuredLinear(16, 16, structure, rngs=nnx.Rngs(0))
  agree(layer, normal(4, 16), tolerance=0.06)


def test_biases_of_channels_that_do_nothing():
  weight = MATRIX.at[:, 2].set(0).at[:, 3].multiply(1e-6)
  bias = jnp.linspace(-1, 1, 6)
  model = Given(lambda x, w, b: x @ w + b, weight, bias)
  assert agree(model, normal(4, 6)) < 0.02
  nothing = Given(lambda x, w, b: x @ w + b, 0 * weight, bias)
  assert agree(nothing, normal(4, 6)) < 0.02
  # Nor does what comes in.
  twice = Given(lambda x, w, b: jax.nn.relu(x @ w - 1e3) @ w + b, MATRIX, bias)
  assert agree(twice, normal(4, 6)) < 0.02


@pytest.mark.parametrize(
  "function",
  [
    lambda x, w: x @ w + 0.5,
    lambda x, w: jax.nn.relu6(x @ w + 3) @ w,
    lambda x, w: x @ w + jnp.full(6, -0.5),
  ],
)
def test_a_bias_that_is_the_same_for_all_channels(function):
  weight = MATRIX * jnp.logspace(-1, 1, 6)
  assert agree(Given(function, weight), normal(4, 5, 6)) < 0.05


def test_a_bias_that_is_the_same_for_all_channels_of_a_convolution():
  conv = Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))
  conv.kernel[...] *= jnp.logspace(-1, 1, 8)
  conv.bias[...] = jnp.full(8, 0.5)
  assert agree(conv, normal(4, 6, 6, 3)) < 0.02


@pytest.mark.parametrize(
  "function",
  [
    lambda x, w: jnp.concatenate([x @ w * 0.1, jnp.full((1, 6), 5.0)]) @ w,
    lambda x, w: (
      jnp.pad(x @ w, ((0, 0), (1, 1)), constant_values=40.0)
      @ (jnp.concatenate([w, w[:2]]) / 10)
    ),
    lambda x, w: (
      jnp.concatenate([jax.nn.sigmoid(x @ w), jnp.full((1, 6), 3.0)]) @ w
    ),
    lambda x, w: jnp.concatenate([jax.nn.sigmoid(x @ w), x, jnp.tanh(x)]) @ w,
    lambda x, w: (
      jnp.concatenate(
        [jnp.concatenate([jax.nn.sigmoid(x @ w), x]), jax.nn.sigmoid(x)]
      )
      @ w
    ),
  ],
)
def test_constants_beside_what_is_computed_fit_its_range(function):
  model = Given(lambda x, w: function(x[0], w)[None], MATRIX)
  x = normal(4, 3, 6)
  rounded = post_training(model, [x[:1]])
  expected = run(model, x[:1])
  error = np.abs(run(rounded, x[:1]) - expected).max()
  assert error < 0.05 * np.abs(expected).max()


SHARED = {
  "twice": lambda x, w, v: jax.nn.relu(jax.nn.relu(x @ w) @ w) @ v,
  "beside": lambda x, w, v: jax.nn.relu(x @ w) @ v + x @ w,
  "in a norm": lambda x, w, v: jax.nn.relu(x @ w) @ v * (w**2).sum(),
  "over channels": lambda x, w, v: jax.nn.relu(x @ w).sum(-1) @ v,
  "over places": lambda x, w, v: jnp.einsum(
    "btc,tf->bcf", jax.nn.relu(x @ w), v
  ),
}


@pytest.mark.parametrize("name", SHARED)
def test_what_others_read_too_stays(name):
  w = MATRIX * jnp.logspace(-1, 1, 6)
  model, x = Given(SHARED[name], w, normal(6, 6, seed=2)), normal(4, 6, 6)
  expected = run(model, x)
  equalize(model, jax.ShapeDtypeStruct(x.shape, x.dtype))
  np.testing.assert_allclose(
    run(model, x), expected, atol=1e-4 * np.abs(expected).max()
  )


def test_weights_that_are_read_twice_are_left_to_nearest_rounding():
  model, x = Given(SHARED["twice"], MATRIX, normal(6, 6, seed=2)), normal(8, 6)
  rounded = post_training(model, [x], weights=Scheme("int4"))
  before = run(rounded, x)
  assert round_weights(rounded, x, "gptq", damping=0.1) == 2 * ["arrays.0"]
  layer = rounded.model.arrays[1][...]
  assert (layer != normal(6, 6, seed=2)).any()
  np.testing.assert_array_equal(rounded.model.arrays[0][...], MATRIX)
  assert before.shape == run(rounded, x).shape


def test_another_shape_that_is_computed_otherwise_is_told():
  def function(x, w):
    # As an order of products that is chosen by the batch's size.
    return (x @ w) @ w if len(x) < 3 else x @ (w @ w)

  rounded = post_training(Given(function, MATRIX), [normal(2, 6)])
  run(rounded, normal(1, 6))
  with pytest.raises(UserError, match=r"shape \(4, 6\) is computed otherwise"):
    run(rounded, normal(4, 6))


def test_calls_that_are_computed_again_are_looked_into():
  model = Given(jax.checkpoint(lambda x, w: jax.nn.relu(x @ w)), MATRIX)
  assert agree(model, normal(4, 6)) < 0.02


@pytest.mark.parametrize(
  ("batches", "message"),
  [
    ([], "batches: there is none"),
    ([jnp.full((2, 6), jnp.nan)], "batches: the model makes NaN or infinity"),
    ([jnp.full((2, 6), jnp.inf)], "batches: the model makes NaN or infinity"),
  ],
)
def test_calibration_refuses_what_has_no_range(batches, message):
  model = Given(lambda x, w: x @ w, MATRIX)
  with pytest.raises(ValueError, match=message):
    post_training(model, batches)
  rounded = post_training(model, [normal(2, 6)])
  with pytest.raises(ValueError, match=message):
    calibrate(rounded, batches)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"weights": Scheme("int4", symmetric=False), "learned": True},
      "learned: the zero point of arrays.0",
    ),
    ({"weights": Scheme("int4", per=2)}, "per: arrays.0 has no channels"),
  ],
)
def test_what_a_weight_has_no_room_for_is_told(arguments, message):
  model = Given(PRODUCTS["from the left"][0], normal(4, 4))
  with pytest.raises(ValueError, match=message):
    post_training(model, [normal(1, 4, 6)], **arguments)


@pytest.mark.parametrize("kind", ["litert", "onnx", "stablehlo"])
def test_a_model_of_several_outputs_is_refused(kind):
  model = Given(lambda x, w: {"aux": 2 * x, "logits": x @ w}, MATRIX)
  example = jax.ShapeDtypeStruct((1, 6), jnp.float32)
  with pytest.raises(UserError, match="one output, and the model returns 2"):
    convert(model, example, kind)
