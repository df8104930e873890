"""Networks of convolutions: published costs, sizes, and their files."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.architectures.models import MODELS
from effarch.infrastructure.cost import measure
from effarch.infrastructure.export import convert
from effarch.infrastructure.runtime import LiteRTModel

pytestmark = pytest.mark.usefixtures("quick_compilation")
# Size of images, parameters, MACs, as published.
PUBLISHED = {
  "resnet_18": (224, 11_689_512, "1.814G"),
  "resnet_20_cifar_option_a": (32, 269_722, 40_551_040),
  "mobilenet_v1": (224, 4_231_976, 568_740_352),
  "mobilenet_v1_1.0": (224, 4_231_976, 568_740_352),
  "mobilenet_v1_0.5": (224, 1_331_592, 149_497_088),
  "mobilenet_v2": (224, 3_504_872, 300_774_272),
  "mobilenet_v2_1.0": (224, 3_504_872, 300_774_272),
  "convnext_tiny": (224, 28_589_128, "4.456G"),
}
# Narrow and shallow, for images of 12 x 10.
SMALL = {
  "resnet_18": {"width_multiplier": 0.125, "stem": "small"},
  "resnet_20_cifar_option_a": {"blocks": 1},
  "mobilenet_v1": {"width_multiplier": 0.25, "stem": "small"},
  "mobilenet_v2": {"width_multiplier": 0.25, "stem": "small"},
  "convnext_tiny": {
    "depths": (1, 1, 1),
    "features": (8, 16, 32),
    "patch_size": 1,
  },
}


def cost(name, size, **arguments):
  model = nnx.eval_shape(lambda: MODELS[name](**arguments, rngs=nnx.Rngs(0)))
  model.eval()
  channels = arguments.get("in_features", 3)
  return measure(
    model, jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
  )


@pytest.mark.parametrize("name", PUBLISHED)
def test_costs_are_the_published(name):
  size, params, macs = PUBLISHED[name]
  found = cost(name, size)
  assert not found.unknown
  assert found.params == params
  printed = f"{found.macs / 1e9:.3f}G" if isinstance(macs, str) else found.macs
  assert printed == macs


def test_convnext_costs_what_its_numbers_say():
  channels, depths, sides = (96, 192, 384, 768), (3, 3, 9, 3), (56, 28, 14, 7)
  macs = 4 * 4 * 3 * 96 * 56**2 + 768 * 1000
  for stage, (c, depth, side) in enumerate(
    zip(channels, depths, sides, strict=True)
  ):
    macs += depth * (49 * c + 8 * c**2) * side**2
    macs += 4 * (c // 2) * c * side**2 if stage else 0
  assert cost("convnext_tiny", 224).macs == macs == 4_455_531_264


@pytest.mark.parametrize("name", SMALL)
def test_channels_and_classes_are_free(name):
  whole, changed = (
    cost(name, 32, **arguments)
    for arguments in ({}, {"in_features": 1, "num_classes": 7})
  )
  first = changed.by_module["layers.0"]
  # A third of the first kernel is left, and of the last seven columns.
  kernel = whole.by_module["layers.0"].params - first.params
  columns = whole.by_module["classifier"], changed.by_module["classifier"]
  assert kernel > 0
  assert kernel % 2 == 0
  head = columns[0].params - columns[1].params
  assert whole.params - changed.params == kernel + head
  assert columns[1].params % 7 == 0


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet_18"])
def test_small_stems_keep_places_and_parameters(name):
  large, small = (cost(name, 64, stem=stem) for stem in ("large", "small"))
  if name == "mobilenet_v2":
    assert small.params == large.params
  assert small.macs > 8 * large.macs


@pytest.mark.parametrize("name", SMALL)
def test_float_files_agree_with_jax(name):
  shape = 12, 10, 3
  model = MODELS[name](shape, 5, **SMALL[name], rngs=nnx.Rngs(0))
  for _, module in nnx.iter_modules(model):
    if isinstance(module, nnx.BatchNorm):
      module.momentum = 0.0  # One batch gives all statistics.
  graphdef, state = nnx.split(model)
  x = jax.random.normal(jax.random.key(0), (16, *shape))

  @jax.jit
  def train(state, x):
    model = nnx.merge(graphdef, state)
    model.train()
    model(x)
    return nnx.state(model)

  model = nnx.merge(graphdef, train(state, x))
  model.eval()
  ready, state = nnx.split(model)
  out = jax.jit(lambda state, x: nnx.merge(ready, state)(x))(state, x)
  chex.assert_shape(out, (16, 5))
  out, inputs = np.asarray(out), np.asarray(x)
  file = convert(fold(model), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
  scale = np.abs(out).max()
  np.testing.assert_allclose(LiteRTModel(file)(inputs), out, atol=3e-5 * scale)


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("resnet_18", {"stem": "tiny"}, "stem: 'tiny' is neither large nor small"),
    ("resnet_18", {"depths": (1,)}, r"depths: \(1,\) is not one for each of"),
    ("resnet_20_cifar_option_a", {"blocks": 0}, "blocks: 0 is not positive"),
    ("mobilenet_v1", {"stem": "s"}, "stem: 's' is neither large nor small"),
    ("mobilenet_v1", {"width_multiplier": 9.0}, "width_multiplier: 9.0 is not"),
    ("mobilenet_v2", {"num_classes": 0}, "num_classes: 0 is not positive"),
    ("convnext_tiny", {"patch_size": 0}, "patch_size: 0 is not positive"),
    ("convnext_tiny", {"depths": (1, 2)}, r"depths: \(1, 2\) is not one for"),
    ("convnext_tiny", {"input_shape": (8, 8)}, r"input_shape: \(8, 8\) is not"),
  ],
)
def test_refuses(name, arguments, message):
  def make():
    return MODELS[name](**arguments, rngs=nnx.Rngs(0))

  with pytest.raises(ValueError, match=message):
    nnx.eval_shape(make)
