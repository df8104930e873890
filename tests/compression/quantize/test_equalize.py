"""The function stays, what is rounded comes nearer to it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import (
  Conv,
  DepthwiseConv,
  fold,
  max_pool,
)
from effarch.architectures.models import MODELS
from effarch.compression.quantize import (
  Scheme,
  correct_biases,
  equalize,
  post_training,
)

SHAPE = (8, 8, 3)
EXAMPLE = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)


class Net(nnx.Module):
  """Channels of very different ranges."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.first = Conv(3, 8, (3, 3), rngs=rngs)
    self.depthwise = DepthwiseConv(8, (3, 3), rngs=rngs)
    self.mixing = Conv(8, 6, (1, 1), rngs=rngs)
    self.six = nnx.Linear(6, 6, rngs=rngs)
    self.out = nnx.Linear(6, 4, rngs=rngs)
    sizes = 10 ** jnp.linspace(-1.5, 1.5, 8)
    self.first.scale_outputs(sizes)
    self.first.bias[...] += sizes
    self.depthwise.kernel[...] /= sizes

  def __call__(self, x):
    x = max_pool(nnx.relu(self.first(x)))
    x = nnx.relu(self.depthwise(x))
    x = nnx.relu(self.mixing(x).mean((1, 2)))
    return self.out(jax.nn.relu6(self.six(x)))


def images(size=32, seed=0):
  return jax.random.normal(jax.random.key(seed), (size, *SHAPE))


def test_the_function_stays_and_ranges_are_shared():
  model, x = Net(), images()
  expected = model(x)
  pairs = equalize(model, EXAMPLE)
  assert pairs == [
    ("first.kernel", "depthwise.kernel"),
    ("depthwise.kernel", "mixing.kernel"),
    ("mixing.kernel", "six.kernel"),
  ]
  chex.assert_trees_all_close(model(x), expected, rtol=1e-5, atol=1e-5)
  first = jnp.abs(model.first.kernel[...]).max((0, 1, 2))
  depthwise = jnp.abs(model.depthwise.kernel[...]).max((0, 1, 2))
  mixing = jnp.abs(model.mixing.kernel[...]).max((0, 1, 3))
  chex.assert_trees_all_close(first, depthwise, rtol=0.01)
  chex.assert_trees_all_close(depthwise, mixing, rtol=0.01)


def test_a_scale_for_each_tensor_is_enough_then():
  x = images()
  scheme = Scheme("int8", per="tensor")
  expected, errors = Net()(x), []
  for equalizes in (False, True):
    model = Net()
    if equalizes:
      equalize(model, EXAMPLE)
    rounded = post_training(model, [x], weights=scheme, activations=None)
    errors.append(float(jnp.abs(rounded(x) - expected).mean()))
  assert errors[1] < 0.3 * errors[0]


# Between the layers of MobileNetV2 is ReLU6, which passes no factors on.
@pytest.mark.parametrize(
  ("name", "number"),
  [("survey_cnn", 1), ("mobilenet_v2", 1), ("resnet_20_cifar_option_a", 9)],
)
def test_networks_stay_what_they_are(name, number):
  model = MODELS[name]((32, 32, 3), 10, width_multiplier=0.1, rngs=nnx.Rngs(0))
  model = fold(model)
  x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
  graphdef, _ = nnx.split(model)
  run = jax.jit(lambda state: nnx.merge(graphdef, state)(x))
  expected = run(nnx.state(model))
  pairs = equalize(model, jax.ShapeDtypeStruct(x.shape, x.dtype))
  assert len(pairs) == number
  found = run(nnx.state(model))
  scale = np.abs(expected).max()
  chex.assert_trees_all_close(found, expected, atol=1e-4 * scale)


def test_means_of_channels_are_made_good():
  x = images()
  model = post_training(
    Net(), [x], weights=Scheme("int4", per="tensor"), activations=None
  )
  exact = Net().first(x).mean((0, 1, 2))
  rounded = model.rounded_weight(0, 3, model.model.first.kernel[...])

  def means():
    layer = nnx.clone(model.model.first)
    layer.kernel[...] = rounded
    return layer(x).mean((0, 1, 2))

  assert np.abs(means() - exact).max() > 1e-3
  for _ in range(2):  # Again, it changes nothing more.
    assert correct_biases(model, Net(), x) == []
  np.testing.assert_allclose(means(), exact, atol=1e-4)
