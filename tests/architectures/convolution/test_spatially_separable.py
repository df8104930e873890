import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from effarch.architectures.convolution.spatially_separable import (
  SpatiallySeparable,
)
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("strides", "between", "shape"),
  [
    (1, 7 * 5, (2, 7, 5, 12)),
    (2, 7 * 3, (2, 4, 3, 12)),
    ((2, 1), 7 * 5, (2, 4, 5, 12)),
  ],
)
def test_exam(strides, between, shape):
  def make(**arguments):
    return SpatiallySeparable(8, 12, (3, 5), strides=strides, **arguments)

  rows, columns = 5 * 8 * 12, 3 * 12 * 12
  check_block(
    make,
    X,
    shape,
    params=rows + columns + 4 * 12,
    macs=2 * between * rows + 2 * shape[1] * shape[2] * columns,
  )


@pytest.mark.parametrize("strides", [1, 2])
def test_without_activations_it_is_one_kernel(strides):
  """Whose `K x L` taps are the products of both kernels'."""
  block = SpatiallySeparable(
    8, 6, (5, 3), strides=strides, activation="identity", rngs=nnx.Rngs(0)
  )
  block.eval()
  rows = block.rows.conv.kernel[...][0]
  columns = block.columns.conv.kernel[...][:, 0]
  kernel = jnp.einsum("lcm,kmf->klcf", rows, columns) / (1 + 1e-5)
  wanted = lax.conv_general_dilated(
    *(X, kernel, (strides, strides), "SAME"),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  assert jnp.allclose(block(X), wanted, atol=1e-4)


def test_both_activate():
  block = SpatiallySeparable(8, 6, rngs=nnx.Rngs(0))
  block.eval()
  between = block.rows(X)
  assert between.min() == 0
  assert block(X).min() == 0


def test_refuses():
  with pytest.raises(
    ValueError, match=r"kernel_size: \(3,\) is not 2 positive"
  ):
    SpatiallySeparable(8, 6, (3,), rngs=nnx.Rngs(0))
