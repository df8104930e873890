"""What is rounded, in JAX and in the file that takes the scales over."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from flax import nnx

from effarch.compression.quantize import Quantized, Scheme, post_training
from effarch.infrastructure.export import convert
from effarch.infrastructure.runtime import LiteRTModel
from tests.compression.quantize.nets import EXAMPLE, images, net, run


def operators(file):
  """Returns each operator of a file with the types that it makes."""
  interpreter = Interpreter(model_content=file)
  return [
    (
      operator["op_name"],
      *(
        interpreter._get_tensor_details(place, 0)["dtype"].__name__
        for place in operator["outputs"]
      ),
    )
    for operator in interpreter._get_ops_details()
  ]


@pytest.fixture(scope="module", params=["int8", "int4"])
def quantized(request):
  model = post_training(net(), [images()], weights=Scheme(request.param))
  return request.param, model, convert(model, EXAMPLE)


def test_the_file_computes_in_integers_alone(quantized):
  _, _, file = quantized
  found = operators(file)
  assert found[0] == ("QUANTIZE", "int8")
  assert found[-1] == ("DEQUANTIZE", "float32")
  assert {kind for _, *kinds in found[1:-1] for kind in kinds} == {"int8"}
  names = [name for name, *_ in found]
  assert names.count("CONV_2D") + names.count("FULLY_CONNECTED") == 4
  for name in ("DEPTHWISE_CONV_2D", "LOGISTIC", "MAX_POOL_2D", "CONCATENATION"):
    assert names.count(name) == 1


def test_the_file_answers_as_the_model_does(quantized):
  dtype, model, file = quantized
  x = images(64, seed=1)
  expected = np.asarray(run(model, x))
  found = np.asarray(LiteRTModel(file)(np.asarray(x)))
  step = np.diff(np.unique(expected)).min()
  assert np.abs(found - expected).max() < 4.5 * step
  assert np.mean(np.abs(found - expected) < 0.5 * step) > 0.5
  plain = np.asarray(run(net(), x))
  error = np.abs(expected - plain).mean() / np.abs(plain).mean()
  assert error < {"int8": 0.02, "int4": 0.3}[dtype]


def test_the_file_has_the_models_scales(quantized):
  _, model, file = quantized
  interpreter = Interpreter(model_content=file)
  held = {
    np.float32(each["quantization"][0])
    for each in interpreter.get_tensor_details()
    if each["dtype"] == np.int8 and each["quantization"][0]
  }
  scale, zero = model.activations.parameters(model.low[...], model.high[...])
  assert set(np.asarray(scale)) <= held
  weights = np.abs(np.asarray(model.model.first.kernel[...])).max((0, 1, 2))
  most = max(model.weights[0].levels)
  assert any(
    each["quantization_parameters"]["scales"].shape == (8,)
    and np.allclose(
      each["quantization_parameters"]["scales"], weights / most, rtol=1e-6
    )
    for each in interpreter.get_tensor_details()
  )
  assert {0.0} == {z % 1 for z in np.asarray(zero)}


def test_four_bits_are_stored_in_four():
  sizes = {}
  for dtype in ("int8", "int4"):
    model = nnx.Linear(256, 64, rngs=nnx.Rngs(0))
    small = post_training(
      model, [jnp.ones((1, 256))], weights=Scheme(dtype), observer="mse"
    )
    example = jax.ShapeDtypeStruct((1, 256), jnp.float32)
    sizes[dtype] = len(convert(small, example))
  np.testing.assert_allclose(
    sizes["int8"] - sizes["int4"], 256 * 64 / 2, atol=16
  )


@pytest.mark.parametrize(
  "scheme",
  [
    *(Scheme(dtype) for dtype in ("int8", "int4", "int2", "ternary", "binary")),
    *(Scheme("float8_e4m3fn"), Scheme("int4", per="tensor")),
    Scheme("int4", per=9),
  ],
  ids=lambda scheme: f"{scheme.dtype}-{scheme.per}",
)
def test_weights_alone_are_rounded_and_ship(scheme):
  layers = {"first.*": scheme, "depthwise.*": scheme}
  model = post_training(
    net(), [images()], weights=None, activations=None, layers=layers
  )
  x = images(8, seed=2)
  twin = net()
  for layer in (twin.first, twin.depthwise):
    kernel = layer.kernel[...]
    w = scheme.arrange(kernel, 3)
    w = scheme.fake(w, *scheme.parameters(*scheme.range_of(w, 3)))
    layer.kernel[...] = scheme.restore(w, kernel.shape, 3)
  expected = run(twin, x)
  chex.assert_trees_all_close(run(model, x), expected, rtol=1e-5, atol=1e-5)
  found = LiteRTModel(convert(model, EXAMPLE))(np.asarray(x))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pruned_weights_stay_zero():
  model = net()
  mask = jax.random.bernoulli(jax.random.key(0), 0.5, (3, 3, 3, 8))
  model.first.kernel[...] *= mask
  seen = []
  small = Quantized(model, EXAMPLE)
  original = small._fake

  def fake(scheme, x, *rest):
    found = original(scheme, x, *rest)
    seen.append((x, found))
    return found

  object.__setattr__(small, "_fake", fake)
  small.eval()
  small(images(2))
  (kernel,) = [y for x, y in seen if x.shape == mask.shape]
  np.testing.assert_array_equal(kernel == 0, ~mask | (kernel == 0))
  assert (np.asarray(kernel)[~np.asarray(mask)] == 0).all()
  assert (np.asarray(kernel) != 0).sum() > 0.9 * mask.sum()


def test_ranges_follow_the_batches_in_training_alone():
  model = Quantized(net(), EXAMPLE, momentum=0.75)
  graphdef, state = nnx.split(model)

  @jax.jit
  def step(state, x):
    model = nnx.merge(graphdef, state)
    model(x)
    return nnx.state(model)

  batches = [images(4, seed) * (seed + 1) for seed in range(3)]
  lows = [min(0.0, float(x.min())) for x in batches]
  low = lows[0]
  for each, x in zip(lows, batches, strict=True):
    state = step(state, x)
    low = 0.75 * low + 0.25 * each if x is not batches[0] else each
  nnx.update(model, state)
  np.testing.assert_allclose(model.low[0], low, rtol=1e-6)
  assert model.steps_seen[...] == 3
  before = nnx.state(model)
  before = jax.tree.map(jnp.copy, before)
  model.eval()
  model(images(4) * 100)
  chex.assert_trees_all_equal(nnx.state(model), before)


@pytest.mark.parametrize("learned", [False, True])
def test_it_learns_with_what_is_rounded(learned):
  model = Quantized(net(), EXAMPLE, weights=Scheme("int4"), learned=learned)
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  x, target = images(8), jnp.eye(4)[jnp.arange(8) % 4]

  @jax.jit
  def step(params, rest):
    def loss(params):
      model = nnx.merge(graphdef, params, rest, copy=True)
      error = jnp.square(model(x) - target).mean()
      return error, nnx.state(model, nnx.Not(nnx.Param))

    (error, rest_), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    moved = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradients)
    return moved, rest_, error, gradients

  errors = []
  for _ in range(30):
    params, rest, error, gradients = step(params, rest)
    errors.append(float(error))
  assert errors[-1] < 0.7 * errors[0]
  flat = dict(nnx.to_flat_state(gradients))
  steps = [g for path, g in flat.items() if path[0] in ("scales", "factors")]
  assert len(steps) == (6 if learned else 0)
  assert all(np.abs(np.asarray(g[...])).max() > 0 for g in steps)


def test_noise_rounds_a_share_of_the_weights_in_training_alone():
  weight = jax.random.normal(jax.random.key(0), (64, 64))
  model = Quantized(
    nnx.Linear(64, 64, rngs=nnx.Rngs(0)),
    jax.ShapeDtypeStruct((1, 64), jnp.float32),
    weights=Scheme("int4"),
    noise=0.3,
  )
  found = model.rounded_weight(0, 1, weight)
  again = model.rounded_weight(0, 1, weight)
  chex.assert_trees_all_equal(found, again)
  model.steps_seen[...] += 1
  other = model.rounded_weight(0, 1, weight)
  model.eval()
  rounded = model.rounded_weight(0, 1, weight)
  for each in (found, other):
    np.testing.assert_array_equal((each == weight) | (each == rounded), True)
    assert abs(float((each == rounded).mean()) - 0.3) < 0.03
  assert (found != other).any()


def test_learned_scales_ship():
  model = Quantized(net(), EXAMPLE, learned=True)
  model.train()
  model(images())
  model.ship()
  x = images(8, seed=3)
  expected = np.asarray(run(model, x))
  found = LiteRTModel(convert(model, EXAMPLE))(np.asarray(x))
  assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"layers": {"last.*": None}},
      "layers: 'last.*' is no weight's path; there",
    ),
    ({"noise": 0.0}, r"noise: 0.0 is not in \(0, 1\]"),
    ({"momentum": 1.0}, r"momentum: 1.0 is not in \[0, 1\)"),
    (
      {"weights": Scheme("int4", per=5)},
      "per: groups of 5 don't divide the 27",
    ),
  ],
)
def test_what_cannot_be_is_told(arguments, message):
  with pytest.raises(ValueError, match=message):
    Quantized(net(), EXAMPLE, **arguments)


def test_an_unknown_observer_is_told():
  with pytest.raises(
    ValueError, match="observer: 'minmax' is unknown; did you"
  ):
    post_training(net(), [images()], observer="minmax")


def test_any_batch_size_has_the_same_sites():
  model = post_training(net(), [images(3), images(5, 1)])
  for size in (1, 2, 7):
    each = jnp.concatenate([run(model, x[None]) for x in images(size)])
    chex.assert_trees_all_close(run(model, images(size)), each, atol=0.05)


def test_inputs_have_gradients():
  model = post_training(net(), [images()])
  plain = jax.grad(lambda x: run(net(), x)[:, 0].sum())(images(2))
  found = jax.grad(lambda x: run(model, x)[:, 0].sum())(images(2))
  noted = jax.grad(lambda x: model(x)[:, 0].sum())(images(2))
  chex.assert_trees_all_close(found, noted, rtol=1e-4, atol=1e-5)
  likeness = (found * plain).sum() / jnp.sqrt(
    (found**2).sum() * (plain**2).sum()
  )
  assert likeness > 0.9
