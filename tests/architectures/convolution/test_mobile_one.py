import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.architectures.convolution.mobile_one import MobileOne
from effarch.infrastructure.cost import measure
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("features", "strides", "branches", "shape"),
  [
    (8, 1, 1, (2, 7, 5, 8)),
    (12, 1, 3, (2, 7, 5, 12)),
    (8, 2, 2, (2, 4, 3, 8)),
  ],
)
def test_exam(features, strides, branches, shape):
  def make(**arguments):
    return MobileOne(
      8, features, strides=strides, branches=branches, **arguments
    )

  depthwise = branches * 9 * 8 + 8
  pointwise = branches * 8 * features
  norms = 2 * 8 * (branches + 1) + 2 * features * branches
  norms += 2 * 8 * (strides == 1) + 2 * 8 * (features == 8)
  check_block(
    make,
    X,
    shape,
    params=depthwise + pointwise + norms,
    macs=shape[0] * shape[1] * shape[2] * (depthwise + pointwise),
  )


def test_folded_it_is_a_separable_convolution():
  block = MobileOne(8, 12, rngs=nnx.Rngs(0))
  block.eval()
  cost = measure(fold(block), X)
  assert cost.params == 9 * 8 + 8 + 8 * 12 + 12
  assert cost.macs == 70 * (9 * 8 + 8 * 12)


def test_both_parts_activate_and_pass():
  """Without kernels, each part is an activated normalization."""
  block = MobileOne(8, 8, rngs=nnx.Rngs(0))
  block.eval()
  for part in (block.depthwise, block.pointwise):
    for branch in part.branches:
      branch.conv.kernel[...] = jnp.zeros(branch.conv.kernel.shape)
    part.norm.bias[...] = jnp.full(8, -0.5)
  scale = 1 / jnp.sqrt(1 + 1e-5)
  wanted = jnp.maximum(scale * X - 0.5, 0)
  wanted = jnp.maximum(scale * wanted - 0.5, 0)
  assert jnp.allclose(block(X), wanted, atol=1e-5)


def test_refuses_no_branch():
  with pytest.raises(ValueError, match="branches: 0 is not positive"):
    MobileOne(8, 8, branches=0, rngs=nnx.Rngs(0))
