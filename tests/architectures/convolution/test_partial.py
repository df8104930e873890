import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from effarch.architectures.convolution.partial import (
  FasterNetBlock,
  PartialConv,
)
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(("partition", "convolved"), [(4, 2), (3, 2), (1, 8)])
def test_exam(partition, convolved):
  weights = 9 * convolved**2
  check_block(
    functools.partial(PartialConv, 8, 8, partition=partition),
    X,
    X.shape,
    params=weights,
    macs=70 * weights,
  )


@pytest.mark.parametrize(
  ("kernel_size", "expansion"), [((3, 3), 2), ((1, 5), 3)]
)
def test_exam_of_the_block(kernel_size, expansion):
  weights = kernel_size[0] * kernel_size[1] * 2**2 + 2 * expansion * 8**2
  check_block(
    functools.partial(FasterNetBlock, 8, 8, kernel_size, expansion=expansion),
    X,
    X.shape,
    params=weights + 2 * expansion * 8,
    macs=70 * weights,
  )


def test_only_the_first_channels_are_convolved():
  layer = PartialConv(8, 8, rngs=nnx.Rngs(0))
  out = layer(X)
  assert jnp.array_equal(out[..., 2:], X[..., 2:])
  wanted = lax.conv_general_dilated(
    *(X[..., :2], layer.conv.kernel[...], (1, 1), "SAME"),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  assert jnp.allclose(out[..., :2], wanted, atol=1e-5)


def test_the_block_adds_its_input():
  block = FasterNetBlock(8, 8, rngs=nnx.Rngs(0))
  block.eval()
  kernel = block.project.kernel[...]
  out = block(X) - X
  block.project.kernel[...] = -2 * kernel
  # What is added is linear in the last kernel, and it has no activation.
  assert jnp.allclose(block(X) - X, -2 * out, atol=1e-5)
  hidden = jnp.maximum(
    block.partial(X) @ block.expand.conv.kernel[...][0, 0], 0
  ) / jnp.sqrt(1 + 1e-5)
  assert jnp.allclose(out, hidden @ kernel[0, 0], atol=1e-5)


@pytest.mark.parametrize("block", [PartialConv, FasterNetBlock])
@pytest.mark.parametrize(
  ("features", "arguments", "message"),
  [
    (12, {}, "out_features: 12 is not in_features, 8"),
    (8, {"strides": 2}, "strides: 2 is not 1"),
    (8, {"partition": 9}, "partition: 9 is not from 1 to 8"),
    (8, {"partition": 0}, "partition: 0 is not from 1 to 8"),
  ],
)
def test_refuses(block, features, arguments, message):
  with pytest.raises(ValueError, match=message):
    block(8, features, **arguments, rngs=nnx.Rngs(0))
