"""Programs whose products and convolutions are counted in closed form.

Axes of images: batch, height, width, channels. Networks are those of
`benchmarks.networks` and `benchmarks.torch_networks`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from benchmarks.networks import GPT2, NETWORKS
from effarch.architectures.models import MODELS

_SIZE, _LAYERS = 128, 8
# Layers, tokens and vocabulary: as it is, and one whose step compiles quickly.
_GPT2, _GPT2_STEP = (12, 1024, 50257), (2, 256, 1000)
# Of MobileNetV2: expansion, channels, blocks, first stride.
_STAGES = (
  *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
  *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


@dataclasses.dataclass(frozen=True)
class Case:
  """A program, and what it costs in truth.

  Args:
    name: in the table.
    macs: of its products and convolutions.
    program: a function; of a network, what makes the module, of shapes.
    inputs: their shapes.
    twin: makes the same of `benchmarks.torch_networks`, a module of the first
      input alone.
    trains: a step forward and backward, which a function does by itself.
    network: it is one.
  """

  name: str
  macs: int
  program: Callable[..., Any]
  inputs: tuple[Any, ...]
  twin: Callable[[Any], Any] | None = None
  trains: bool = False
  network: bool = False


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def loss(outputs):
  return jnp.square(outputs).mean()


def _written_out(x, weights):
  for weight in weights:
    x = x @ weight
  return x


def _scan(x, weights):
  return lax.scan(lambda x, weight: (x @ weight, None), x, weights)[0]


def _nested(x, weights):
  return lax.scan(lambda x, _: (_scan(x, weights), None), x, length=4)[0]


def _while(x, weights):
  def turn(now):
    number, x = now
    return number + 1, x @ weights[number]

  return lax.while_loop(lambda now: now[0] < len(weights), turn, (0, x))[1]


def _cond(x, weights):
  cheap = lambda x, weights: x + weights[0]  # noqa: E731
  return lax.cond(x[0, 0] > 0, _written_out, cheap, x, weights)


def _dense(x, weights):
  for weight in weights:
    x = jnp.sin(x @ weight)
  return x


def _scanned_dense(x, weights):
  return lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, weights)[0]


def _convolutions(x, kernels, *, stride=1, groups=1):
  for kernel in kernels:
    x = lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=groups,
    )
  return x


def _transposed(x, kernel):
  return lax.conv_transpose(x, kernel, (2, 2), "VALID")


def _step(function):
  """Returns the sum of the outputs, and its gradient by the weights."""
  return jax.value_and_grad(lambda x, w: function(x, w).sum(), argnums=1)


def small_programs() -> list[Case]:
  """Returns programs of a few primitives each."""
  layers, n, side = _LAYERS, _SIZE, _SIZE // 4
  one, x, weights = n**3, _floats(n, n), _floats(layers, n, n)
  stack, batch = (x, weights), (_floats(4, n, n), weights)
  # As many channels as pixels on a side; 3 x 3 kernels, nothing padded.
  image, each = _floats(1, side, side, side), 9 * side**2
  first, second = (side - 1) // 2, (side - 3) // 4

  def kernels(inputs, number=1):
    return image, _floats(number, 3, 3, inputs, side)

  def dense(**options):
    return lambda twins: twins.Dense(layers, n, **options)

  def conv(number=1, kind="Conv2d", **options):
    def twin(twins):
      make = getattr(twins.nn, kind)
      layers = [make(side, side, 3, **options) for _ in range(number)]
      return twins.nn.Sequential(*layers)

    return twin

  grouped = functools.partial(_convolutions, groups=4)
  depthwise = functools.partial(_convolutions, groups=side)
  strided = functools.partial(_convolutions, stride=2)
  vmapped = jax.vmap(_scan, (0, None))
  recomputed = _step(jax.checkpoint(_dense))
  return [
    Case(
      "products, written out",
      layers * one,
      _written_out,
      stack,
      dense(curved=False),
    ),
    Case("products in scan", layers * one, _scan, stack),
    Case("products in while_loop", layers * one, _while, stack),
    Case("products in scan in scan", 4 * layers * one, _nested, stack),
    Case("products in scan in vmap", 4 * layers * one, vmapped, batch),
    Case("products in cond", layers * one, _cond, stack),
    Case(
      "dense net, a step",
      (3 * layers - 1) * one,
      _step(_dense),
      stack,
      dense(),
      trains=True,
    ),
    Case(
      "dense net, a step with checkpoint",
      (4 * layers - 1) * one,
      recomputed,
      stack,
      dense(recomputed=True),
      trains=True,
    ),
    Case(
      "dense net in scan, a step",
      3 * layers * one,
      _step(_scanned_dense),
      stack,
    ),
    Case(
      "grouped convolution",
      each * (side - 2) ** 2 // 4,
      grouped,
      kernels(side // 4),
      conv(groups=4),
    ),
    Case(
      "depthwise convolution",
      each * (side - 2) ** 2 // side,
      depthwise,
      kernels(1),
      conv(groups=side),
    ),
    Case(
      "depthwise convolution, a step",
      2 * each * (side - 2) ** 2 // side,
      _step(depthwise),
      kernels(1),
      conv(groups=side),
      trains=True,
    ),
    Case(
      "transposed convolution",
      each * side**2,
      _transposed,
      (image, _floats(3, 3, side, side)),
      conv(kind="ConvTranspose2d", stride=2),
    ),
    Case(
      "transposed convolution, a step",
      2 * each * side**2,
      _step(_transposed),
      (image, _floats(3, 3, side, side)),
      conv(kind="ConvTranspose2d", stride=2),
      trains=True,
    ),
    Case(
      "two strided convolutions, a step",
      each * (2 * first**2 + 3 * second**2),
      _step(strided),
      kernels(side, 2),
      conv(2, stride=2),
      trains=True,
    ),
  ]


def _survey_cnn(convolution="standard") -> int:
  macs, side, inputs = 0, 32, 3
  for index, outputs in enumerate((32, 32, 64, 64, 128, 128)):
    separable = index and convolution == "separable"
    kernel = inputs * (9 + outputs if separable else 9 * outputs)
    macs += side**2 * kernel
    side, inputs = side // 2 if index % 2 else side, outputs
  return macs + side**2 * inputs * 512 + 512 * 10


def _resnet_18() -> int:
  macs, side, inputs = 112**2 * 49 * 3 * 64 + 512 * 1000, 56, 64
  for outputs in (64, 128, 256, 512):
    if outputs > inputs:
      side //= 2
      macs += side**2 * inputs * outputs
    macs += side**2 * 9 * (inputs + 3 * outputs) * outputs
    inputs = outputs
  return macs


def _mobilenet_v2() -> int:
  macs, side, inputs = 112**2 * 27 * 32, 112, 32
  for expansion, outputs, blocks, stride in _STAGES:
    for block in range(blocks):
      hidden = expansion * inputs
      macs += side**2 * inputs * hidden if expansion > 1 else 0
      side //= 1 if block else stride
      macs += side**2 * hidden * (9 + outputs)
      inputs = outputs
  return macs + side**2 * inputs * 1280 + 1280 * 1000


def _transformer(layers, tokens, features) -> int:
  return layers * 2 * tokens * features * (6 * features + tokens)


def _vit_tiny() -> int:
  return 196 * 768 * 192 + _transformer(12, 197, 192) + 192 * 1000


def networks() -> list[Case]:
  """Returns whole networks, at batch 1."""
  image, large = _floats(1, 32, 32, 3), _floats(1, 224, 224, 3)

  def survey(name, kind, trains=False):
    make = functools.partial(MODELS["survey_cnn"], (32, 32, 3), 10)
    # Both gradients of each layer, but none of the image.
    macs = _survey_cnn(kind)
    return Case(
      name,
      3 * macs - 32**2 * 27 * 32 if trains else macs,
      lambda: nnx.eval_shape(lambda: make(convolution=kind, rngs=nnx.Rngs(0))),
      (image,),
      lambda twins: twins.survey_cnn(convolution=kind),
      trains,
      network=True,
    )

  def published(name, key, macs, twin):
    return Case(name, macs, NETWORKS[key][0], (large,), twin, network=True)

  def gpt2(name, size, trains=False, scanned=False):
    layers, tokens, vocabulary = size
    macs = _transformer(layers, tokens, 768) + tokens * 768 * vocabulary
    options = {"layers": layers, "vocabulary": vocabulary}
    return Case(
      name,
      3 * macs if trains else macs,
      lambda: nnx.eval_shape(
        lambda: GPT2(**options, scanned=scanned, rngs=nnx.Rngs(0))
      ),
      (jax.ShapeDtypeStruct((1, tokens), jnp.int32),),
      None if scanned else lambda twins: twins.GPT2(**options),
      trains,
      network=True,
    )

  return [
    survey("survey CNN", "standard"),
    survey("survey CNN, separable", "separable"),
    published(
      "ResNet-18", "resnet_18", _resnet_18(), lambda twins: twins.resnet_18()
    ),
    published(
      "MobileNetV2",
      "mobilenet_v2_1.0",
      _mobilenet_v2(),
      lambda twins: twins.mobilenet_v2(_STAGES),
    ),
    published(
      "ViT-Tiny/16", "vit_tiny_16", _vit_tiny(), lambda twins: twins.ViT()
    ),
    gpt2("GPT-2 small", _GPT2),
    gpt2("GPT-2 small, scanned", _GPT2, scanned=True),
    survey("survey CNN, a step", "standard", True),
    gpt2("GPT-2 of 2 layers, a step", _GPT2_STEP, True),
    gpt2("GPT-2 of 2 layers, scanned, a step", _GPT2_STEP, True, scanned=True),
  ]
