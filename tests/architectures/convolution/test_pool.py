import chex
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from effarch.architectures.convolution import max_pool


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 7, 2), (2, 3, 2, 1)])
@pytest.mark.parametrize("size", [(2, 2), (3, 2)])
def test_equals_xla_where_inputs_are_equal_too(shape, size):
  # ReLU makes windows of zeros, whose first one gets the gradient.
  x = nnx.relu(jax.random.normal(jax.random.key(0), shape))

  def theirs(x):
    return nnx.max_pool(x, window_shape=size, strides=size)

  wanted, back = jax.vjp(theirs, x)
  found, forth = jax.vjp(lambda x: max_pool(x, size), x)
  gradient = jax.random.normal(jax.random.key(1), wanted.shape)
  chex.assert_trees_all_equal(found, wanted)
  chex.assert_trees_all_equal(forth(gradient), back(gradient))


def test_half_precision_keeps_its_type():
  x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
  gradient = jax.grad(lambda x: max_pool(x).sum())(x)
  assert gradient.dtype == jnp.bfloat16
