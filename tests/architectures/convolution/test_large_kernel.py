import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.architectures.convolution.large_kernel import LargeKernel
from effarch.infrastructure.cost import measure
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("features", "kernel_size", "strides", "shape"),
  [
    (8, (9, 7), 1, (2, 7, 5, 8)),
    (12, (7, 7), 2, (2, 4, 3, 12)),
    (8, (31, 31), 1, (2, 7, 5, 8)),
  ],
)
def test_exam(features, kernel_size, strides, shape):
  def make(**arguments):
    return LargeKernel(8, features, kernel_size, strides=strides, **arguments)

  filters = (kernel_size[0] * kernel_size[1] + 25) * 8
  params = 64 + 16 + filters + 32 + 8 * features + 2 * features
  places = 2 * shape[1] * shape[2]
  check_block(
    make,
    X,
    shape,
    params=params,
    macs=70 * 64 + places * (filters + 8 * features),
  )


def test_folded_the_small_kernel_is_in_the_large_one():
  block = LargeKernel(8, 8, (9, 9), rngs=nnx.Rngs(0))
  block.eval()
  copy = fold(block)
  cost = measure(copy, X)
  assert cost.params == 2 * (64 + 8) + 81 * 8 + 8
  assert cost.macs == 70 * (2 * 64 + 81 * 8)
  large, small = (
    branch.conv.kernel[...] / jnp.sqrt(1 + 1e-5)
    for branch in block.depthwise.branches
  )
  kernel = copy.depthwise.conv.kernel[...]
  assert jnp.allclose(kernel[2:7, 2:7], large[2:7, 2:7] + small, atol=1e-5)
  assert jnp.allclose(kernel[:2], large[:2], atol=1e-5)


@pytest.mark.parametrize(("features", "strides"), [(8, 1), (12, 1), (8, 2)])
def test_the_input_is_added_where_it_fits(features, strides):
  block = LargeKernel(8, features, (5, 5), strides=strides, rngs=nnx.Rngs(0))
  block.eval()
  block.after.conv.kernel[...] = jnp.zeros((1, 1, 8, features))
  # One place stays one place with strides too, and still nothing is added.
  x = X[:, :1, :1]
  wanted = x if (features, strides) == (8, 1) else 0 * block(x)
  assert jnp.array_equal(block(x), wanted)


def test_refuses_a_small_kernel_that_is_larger():
  with pytest.raises(ValueError, match=r"\(5, 5\) is not within kernel_size"):
    LargeKernel(8, 8, (3, 7), rngs=nnx.Rngs(0))
