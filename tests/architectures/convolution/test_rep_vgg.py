import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from effarch.architectures.convolution import fold
from effarch.architectures.convolution.rep_vgg import RepVGG
from effarch.infrastructure.cost import measure
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("features", "strides", "groups", "shape"),
  [
    (8, 1, 1, (2, 7, 5, 8)),
    (12, 1, 4, (2, 7, 5, 12)),
    (8, 2, 1, (2, 4, 3, 8)),
    (8, 1, 2, (2, 7, 5, 8)),
  ],
)
def test_exam(features, strides, groups, shape):
  def make(**arguments):
    return RepVGG(8, features, strides=strides, groups=groups, **arguments)

  passes = features == 8 and strides == 1
  weights = (9 + 1) * 8 * features // groups
  check_block(
    make,
    X,
    shape,
    params=weights + 4 * features + 2 * features * passes,
    macs=shape[0] * shape[1] * shape[2] * weights,
  )


def test_equals_its_three_branches():
  block = RepVGG(8, 8, rngs=nnx.Rngs(0))
  block(X)  # Statistics unlike those at the start.
  block.eval()

  def normalized(x, norm):
    scale = norm.scale[...] / jnp.sqrt(norm.var[...] + 1e-5)
    return (x - norm.mean[...]) * scale + norm.bias[...]

  wanted = normalized(X, block.norm)
  for branch in block.branches:
    x = lax.conv_general_dilated(
      *(X, branch.conv.kernel[...], (1, 1), "SAME"),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    wanted += normalized(x, branch.norm)
  assert jnp.allclose(block(X), jnp.maximum(wanted, 0), atol=1e-5)


def test_folded_it_is_one_convolution():
  block = RepVGG(8, 8, rngs=nnx.Rngs(0))
  block.eval()
  cost = measure(fold(block), X)
  assert (cost.params, cost.macs) == (9 * 64 + 8, 70 * 9 * 64)
