import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import CONVOLUTIONS
from effarch.architectures.convolution.separable import separable_conv
from effarch.testing import check_layer

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


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_exam(name):
  params, macs = FORMULAS[name]
  check_layer(make(name), X, (2, 6, 5, 4), params=params, macs=macs)


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


def naive(x, depthwise, mixing, stride):
  """Valid padding, one output number at a time."""
  batch, height, width, _ = x.shape
  rows, columns = depthwise.shape[:2]
  out = np.zeros(
    (
      batch,
      (height - rows) // stride + 1,
      (width - columns) // stride + 1,
      mixing.shape[1],
    )
  )
  for index in np.ndindex(out.shape[:3]):
    b, i, j = index
    window = x[b, i * stride : i * stride + rows, j * stride :][:, :columns]
    filtered = (window * depthwise[:, :, 0]).sum((0, 1))
    out[index] = filtered @ mixing
  return out


@pytest.mark.parametrize("stride", [1, 2])
def test_equals_its_naive_twin(stride):
  generator = np.random.default_rng(0)
  x = generator.normal(size=(2, 6, 7, 3)).astype(np.float32)
  depthwise = generator.normal(size=(3, 2, 1, 3)).astype(np.float32)
  mixing = generator.normal(size=(3, 4)).astype(np.float32)
  out = separable_conv(
    jnp.asarray(x),
    jnp.asarray(depthwise),
    jnp.asarray(mixing),
    strides=(stride, stride),
    padding="VALID",
  )
  np.testing.assert_allclose(
    out, naive(x, depthwise, mixing, stride), rtol=1e-4, atol=1e-5
  )
