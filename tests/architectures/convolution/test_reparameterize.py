import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import conv, fold
from effarch.architectures.convolution.reparameterize import (
  Branches,
  merged,
  passing,
)

X = jax.random.normal(jax.random.key(0), (2, 7, 6, 4))


def drawn(key, *shape):
  return jax.random.normal(jax.random.key(key), shape)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_one_kernel_answers_as_the_sum_of_three(strides, groups):
  shapes = [(3, 5), (1, 1), (5, 1)]
  pairs = [
    (drawn(i, *shape, 4 // groups, 6), drawn(i + 9, 6))
    for i, shape in enumerate(shapes)
  ]

  def call(kernel, bias):
    padding = tuple(size // 2 for size in kernel.shape[:2])
    return bias + conv(
      X, kernel, strides=strides, padding=padding, groups=groups
    )

  kernel, bias = merged(pairs)
  chex.assert_shape(kernel, (5, 5, 4 // groups, 6))
  chex.assert_trees_all_close(
    call(kernel, bias), sum(call(*pair) for pair in pairs), atol=1e-4
  )


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_what_passes_is_a_convolution(groups):
  norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
  norm(3 * X + jnp.arange(4.0))
  norm.scale[...] += jnp.arange(4.0)
  norm.bias[...] = jnp.arange(4.0)
  norm.eval()
  kernel, bias = passing(norm, groups)
  chex.assert_shape(kernel, (1, 1, 4 // groups, 4))
  chex.assert_trees_all_close(
    conv(X, kernel, groups=groups) + bias, norm(X), atol=1e-5
  )


@pytest.mark.parametrize("size", [6, 7])
def test_strided_branches_have_the_same_middle(size):
  """With kernels of one tap in the middle, all see the same places."""
  block = Branches(
    *(1, 1, [(5, 5), (3, 3), (1, 1)]),
    strides=2,
    activation="identity",
    rngs=nnx.Rngs(0),
  )
  block.eval()
  for branch in block.branches:
    kernel = np.zeros(branch.conv.kernel.shape, np.float32)
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
    branch.conv.kernel[...] = jnp.asarray(kernel)
  x = drawn(0, 1, size, size, 1)
  scale = 3 / np.sqrt(1 + block.branches[0].norm.epsilon)
  chex.assert_trees_all_close(block(x), scale * x[:, ::2, ::2], atol=1e-5)


def test_crossing_kernels_and_a_second_fold():
  block = Branches(4, 4, [(1, 5), (3, 1)], rngs=nnx.Rngs(0))
  block.eval()
  once = fold(block)
  chex.assert_shape(once.conv.kernel[...], (3, 5, 4, 4))
  chex.assert_trees_all_close(once(X), block(X), atol=1e-5)
  chex.assert_trees_all_equal(nnx.state(fold(once)), nnx.state(once))


def test_refuses_even_sizes():
  with pytest.raises(ValueError, match=r"kernel_size: \(3, 2\) has no middle"):
    Branches(4, 4, [(3, 2)], rngs=nnx.Rngs(0))
