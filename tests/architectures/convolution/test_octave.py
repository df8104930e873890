import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.architectures.convolution.octave import (
  OctaveConv,
  doubled,
  even,
  halved,
)
from effarch.architectures.convolution.octave_block import OctaveBlock
from effarch.infrastructure.cost import measure
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))
# Two octaves of 8 channels.
HIGH = jax.random.normal(jax.random.key(1), (2, 8, 4, 6))
LOW = jax.random.normal(jax.random.key(2), (2, 4, 2, 2))


@pytest.mark.parametrize(
  ("strides", "ratio", "low", "shape", "filled"),
  [
    (1, 0.5, 6, (2, 7, 5, 12), 8 * 6),
    (2, 0.3, 3, (2, 4, 3, 12), 4 * 4),
    (1, 0.0, 0, (2, 7, 5, 12), 8 * 6),
  ],
)
def test_exam(strides, ratio, low, shape, filled):
  def make(**arguments):
    return OctaveBlock(8, 12, strides=strides, ratio=ratio, **arguments)

  weights = 9 * 8 * 12 + 9 * 12 * 12
  # A channel in four quarters costs 1 - 3/4 of it less, on either side.
  macs = 2 * filled * (weights - 3 * weights * low // 12 // 4)
  check_block(
    make, X, shape, params=weights + 2 * (low + 12 - low) + 2 * 12, macs=macs
  )


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_macs_are_the_papers(ratio):
  """Of a convolution's, `1 - 3/4 a (2 - a)` (section 3.3)."""
  layer = OctaveConv(8, 8, ratio_in=ratio, ratio_out=ratio, rngs=nnx.Rngs(0))
  low = int(8 * ratio)
  octaves = jnp.zeros((1, 8, 8, 8 - low)), jnp.zeros((1, 4, 4, low))
  wanted = 64 * 9 * 8 * 8 * (1 - 0.75 * ratio * (2 - ratio))
  layer.eval()
  cost = measure(layer, octaves)
  assert cost.macs == wanted
  assert cost.params == 9 * 8 * 8 + 2 * 8


def naive(layer, high, low):
  """The four paths by NumPy, with 1x1 kernels, which need no borders."""
  high, low = np.asarray(high), np.asarray(low)

  def pool(x):
    return (
      x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]
    ) / 4

  def path(name, x):
    return x @ np.asarray(getattr(layer, name).kernel[...])[0, 0]

  if layer.stride == 2:
    high, low = pool(high), pool(low)
    up = path("low_to_high", np.asarray(LOW))
  else:
    up = path("low_to_high", low).repeat(2, 1).repeat(2, 2)
  above = path("high_to_high", high) + up
  below = path("low_to_low", low) + path("high_to_low", pool(high))
  scale = 1 / np.sqrt(1 + 1e-5)
  return np.maximum(above * scale, 0), np.maximum(below * scale, 0)


@pytest.mark.parametrize("strides", [1, 2])
def test_four_paths(strides):
  layer = OctaveConv(
    8, 12, (1, 1), strides=strides, ratio_in=0.25, rngs=nnx.Rngs(0)
  )
  layer.eval()
  found, wanted = layer((HIGH, LOW)), naive(layer, HIGH, LOW)
  for a, b in zip(found, wanted, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_both_octaves_fold():
  layer = OctaveConv(8, 12, ratio_in=0.25, rngs=nnx.Rngs(0))
  for _ in range(3):
    layer((HIGH + 1, 2 * LOW))
  for norm in (layer.high_norm, layer.low_norm):
    norm.bias[...] += 0.5
    norm.scale[...] *= 1.5
  layer.eval()
  copy = fold(layer)
  assert not jax.tree.leaves(nnx.state(copy, nnx.BatchStat))
  for a, b in zip(copy((HIGH, LOW)), layer((HIGH, LOW)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_down_and_up():
  x = jnp.arange(16.0).reshape(1, 4, 2, 2)
  np.testing.assert_array_equal(
    halved(x)[0, :, 0], [[(0 + 2 + 4 + 6) / 4, 4], [11, 12]]
  )
  np.testing.assert_array_equal(doubled(x), x.repeat(2, 1).repeat(2, 2))
  np.testing.assert_allclose(halved(doubled(X)), X, rtol=1e-6)


def test_odd_images_are_filled_with_what_is_last():
  pads = ((0, 0), (0, 1), (0, 3), (0, 0))
  np.testing.assert_array_equal(even(X, 4), jnp.pad(X, pads, mode="edge"))
  np.testing.assert_array_equal(even(HIGH, 4), HIGH)
  block = OctaveBlock(8, 4, rngs=nnx.Rngs(0))
  block.eval()
  filled = jnp.pad(X, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
  np.testing.assert_allclose(block(X), block(filled)[:, :7, :5], atol=1e-5)


def test_refuses():
  with pytest.raises(ValueError, match="strides: 3 is neither 1 nor 2"):
    OctaveBlock(8, 8, strides=3, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=r"strides: \(1, 2\) is neither"):
    OctaveBlock(8, 8, strides=(1, 2), rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=r"ratio: 1.0 is not in \[0, 1\)"):
    OctaveBlock(8, 8, ratio=1.0, rngs=nnx.Rngs(0))
  layer = OctaveConv(8, 8, ratio_in=0.0, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="images of 7 x 5 have no halves"):
    layer((X, None))
  with pytest.raises(ValueError, match="a low one does not fit ratio_in"):
    layer((HIGH, LOW))
  layer = OctaveConv(8, 8, ratio_in=0.25, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="no low one does not fit ratio_in"):
    layer((HIGH, None))
