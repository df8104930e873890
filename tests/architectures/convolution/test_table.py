import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import CONVOLUTIONS
from effarch.testing import check_block, check_layer

X = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
# name: parameters and MACs of a 3x3 layer from 3 to 4 channels on X.
FORMULAS = {
  "standard": (9 * 3 * 4 + 4, 2 * 30 * 9 * 3 * 4),
  "separable": (9 * 3 + 3 * 4 + 4, 2 * 30 * (9 * 3 + 3 * 4)),
}


def make(name):
  def layer(**arguments):
    return CONVOLUTIONS[name](3, 4, (3, 3), **arguments)

  return layer


@pytest.mark.parametrize("name", FORMULAS)
def test_exam(name):
  params, macs = FORMULAS[name]
  check_block(make(name), X, (2, 6, 5, 4), params=params, macs=macs)


# Blocks that keep channels and places.
KEEP = {"conv_next", "partial", "faster_net"}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_one_stands_where_a_convolution_stands(name):
  features, strides = (8, 1) if name in KEEP else (16, 2)
  layer = nnx.eval_shape(
    lambda: CONVOLUTIONS[name](
      *(8, features, (5, 5)),
      strides=strides,
      dtype="bfloat16",
      param_dtype="float32",
      rngs=nnx.Rngs(0),
    )
  )
  layer.eval()
  x = jax.ShapeDtypeStruct((2, 9, 7, 8), jnp.bfloat16)
  out = nnx.eval_shape(lambda layer, x: layer(x), layer, x)
  shape = (2, 9, 7, 8) if name in KEEP else (2, 5, 4, 16)
  assert (out.shape, out.dtype) == (shape, jnp.bfloat16)


class Leaking(nnx.Module):
  """A mutant: an example's output depends on the others of its batch."""

  def __init__(self, **arguments):
    self.conv = make("standard")(**arguments)

  def __call__(self, x):
    return self.conv(x - x.mean(0))


class Idle(nnx.Module):
  """A mutant: a parameter that nothing uses."""

  def __init__(self, **arguments):
    self.conv = make("standard")(**arguments)
    self.extra = nnx.Param(jnp.zeros(3))

  def __call__(self, x):
    return self.conv(x)


@pytest.mark.parametrize(
  ("mutant", "params", "message"),
  [
    (Leaking, FORMULAS["standard"][0], None),
    (Idle, FORMULAS["standard"][0] + 3, "gets no gradient"),
    (make("standard"), 1, "112 parameters, formula 1"),
  ],
)
def test_exam_fails_mutants(mutant, params, message):
  macs = FORMULAS["standard"][1]
  with pytest.raises(AssertionError, match=message):
    check_layer(mutant, X, (2, 6, 5, 4), params=params, macs=macs)


def test_separable_mixes_what_it_filtered():
  layer = CONVOLUTIONS["separable"](
    3, 4, (3, 2), strides=2, padding="VALID", rngs=nnx.Rngs(0)
  )
  layer.pointwise.bias[...] = jnp.arange(4.0)
  filters = np.asarray(layer.depthwise.kernel[...])[:, :, 0]
  mixing = np.asarray(layer.pointwise.kernel[...])[0, 0]
  x = np.asarray(X)
  wanted = np.zeros((2, 2, 2, 4))
  for b, i, j in np.ndindex(2, 2, 2):
    seen = x[b, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2]
    wanted[b, i, j] = (seen * filters).sum((0, 1)) @ mixing + np.arange(4)
  np.testing.assert_allclose(layer(X), wanted, rtol=1e-4, atol=1e-5)
