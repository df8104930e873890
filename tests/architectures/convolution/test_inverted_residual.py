import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from effarch.architectures.convolution import (
  FusedInvertedResidual,
  InvertedResidual,
  UniversalInvertedResidual,
)
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


def plain(x, kernel, strides=1, groups=1):
  return lax.conv_general_dilated(
    *(x, kernel, (strides, strides), "SAME"),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def normalized(x, conv_norm, activation, **window):
  """A `ConvNorm` in evaluation mode, by XLA and a closed form."""
  norm = conv_norm.norm
  x = plain(x, conv_norm.conv.kernel[...], **window) - norm.mean[...]
  scale = norm.scale[...] / jnp.sqrt(norm.var[...] + 1e-5)
  return activation(x * scale + norm.bias[...])


def trained(block):
  """A block whose statistics are not those of the start."""
  for scale in (2.0, 0.5):
    block(scale * X + 1)
  block.eval()
  return block


@pytest.mark.parametrize(
  ("features", "strides", "expansion", "squeezed"),
  [(8, 1, 6.0, 2), (12, 2, 2.5, 0), (8, 2, 1.0, 0)],
)
def test_exam(features, strides, expansion, squeezed):
  hidden = round(8 * expansion)
  places = 35 if strides == 1 else 12
  mixing = 8 * hidden if expansion != 1 else 0
  rest = 9 * hidden + hidden * features
  excites = 2 * hidden * squeezed
  check_block(
    functools.partial(
      InvertedResidual,
      *(8, features),
      strides=strides,
      expansion=expansion,
      squeezed_features=squeezed,
    ),
    X,
    (2, 7, 5, features) if strides == 1 else (2, 4, 3, features),
    params=mixing
    + rest
    + 2 * (hidden * (2 if mixing else 1) + features)
    + (excites + squeezed + hidden if squeezed else 0),
    macs=2 * (35 * mixing + places * rest + excites),
  )


@pytest.mark.parametrize(
  ("features", "strides", "expansion", "squeezed"),
  [(12, 2, 4.0, 3), (8, 1, 1.0, 0)],
)
def test_exam_of_the_fused(features, strides, expansion, squeezed):
  hidden = round(8 * expansion)
  weights = 9 * 8 * hidden + hidden * features
  params = weights + 2 * hidden + 2 * features
  if expansion == 1:
    weights = 9 * 8 * features
    params = weights + 2 * features
  excites = 2 * hidden * squeezed
  check_block(
    functools.partial(
      FusedInvertedResidual,
      *(8, features),
      strides=strides,
      expansion=expansion,
      squeezed_features=squeezed,
    ),
    X,
    (2, 7, 5, features) if strides == 1 else (2, 4, 3, features),
    params=params + (excites + squeezed + hidden if squeezed else 0),
    macs=2 * ((35 if strides == 1 else 12) * weights + excites),
  )


@pytest.mark.parametrize(
  ("kernel_size", "start", "features", "strides"),
  [
    ((3, 3), (5, 5), 8, 1),
    ((5, 3), (3, 3), 12, 2),
    (None, (3, 3), 12, 2),
    (None, None, 8, 1),
  ],
)
def test_exam_of_the_universal(kernel_size, start, features, strides):
  before = 0 if start is None else start[0] * start[1] * 8
  behind = 0 if kernel_size is None else kernel_size[0] * kernel_size[1] * 32
  last = 35 if strides == 1 else 12
  inner = last if kernel_size is None else 35
  norms = 8 * bool(before) + 32 + 32 * bool(behind) + features
  check_block(
    functools.partial(
      UniversalInvertedResidual,
      *(8, features, kernel_size),
      start_kernel_size=start,
      strides=strides,
    ),
    X,
    (2, 7, 5, features) if strides == 1 else (2, 4, 3, features),
    params=before + 8 * 32 + behind + 32 * features + 2 * norms,
    macs=2 * (inner * (before + 8 * 32) + last * (behind + 32 * features)),
  )


@pytest.mark.parametrize("strides", [1, 2])
def test_equals_its_parts(strides):
  block = trained(
    InvertedResidual(
      8, 8, strides=strides, squeezed_features=2, rngs=nnx.Rngs(0)
    )
  )
  y = normalized(X, block.expand, nnx.relu6)
  y = normalized(y, block.depthwise, nnx.relu6, strides=strides, groups=48)
  reduce, expand = block.excite.reduce, block.excite.expand
  gate = nnx.relu6(y.mean((1, 2)) @ reduce.kernel[...] + reduce.bias[...])
  gate = nnx.sigmoid(gate @ expand.kernel[...] + expand.bias[...])
  y = normalized(y * gate[:, None, None], block.project, lambda x: x)
  wanted = X + y if strides == 1 else y
  np.testing.assert_allclose(block(X), wanted, rtol=1e-4, atol=1e-5)


def test_the_fused_equals_its_parts():
  block = trained(FusedInvertedResidual(8, 8, rngs=nnx.Rngs(0)))
  y = normalized(X, block.expand, nnx.silu)
  wanted = X + normalized(y, block.project, lambda x: x)
  np.testing.assert_allclose(block(X), wanted, rtol=1e-4, atol=1e-5)


def test_the_universal_equals_its_parts():
  block = trained(
    UniversalInvertedResidual(
      *(8, 8, (3, 3)), start_kernel_size=(3, 3), strides=2, rngs=nnx.Rngs(0)
    )
  )
  y = normalized(X, block.start, lambda x: x, groups=8)
  y = normalized(y, block.expand, nnx.relu)
  y = normalized(y, block.depthwise, nnx.relu, strides=2, groups=32)
  wanted = normalized(y, block.project, lambda x: x)
  np.testing.assert_allclose(block(X), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("block", "arguments", "message"),
  [
    (InvertedResidual, {"expansion": 0.0}, "expansion: 0.0 leaves no channels"),
    (InvertedResidual, {"gate": "sigmid"}, "activation: 'sigmid' is none of"),
    (InvertedResidual, {"squeezed_features": -1}, "squeezed_features: -1 is"),
    (FusedInvertedResidual, {"expansion": 0.01}, "expansion: 0.01 leaves no"),
    (
      FusedInvertedResidual,
      {"expansion": 1.0, "squeezed_features": 2},
      "squeezed_features: 2 stand before a projection",
    ),
    (
      UniversalInvertedResidual,
      {"expansion": -1.0},
      "expansion: -1.0 leaves no",
    ),
    (
      UniversalInvertedResidual,
      {"kernel_size": None, "strides": (1, 2)},
      r"strides: \(1, 2\) is not 1, and there is no filter",
    ),
  ],
)
def test_refuses(block, arguments, message):
  arguments = {"squeezed_features": 2, **arguments}
  if block is UniversalInvertedResidual:
    del arguments["squeezed_features"]
  with pytest.raises(ValueError, match=message):
    block(8, 8, **arguments, rngs=nnx.Rngs(0))
