import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution.blur_pool import BlurConv, blur_pool
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("strides", "taps", "blur", "shape"),
  [
    (1, 3, 0, (2, 7, 5, 12)),
    (2, 3, 3 * 3, (2, 4, 3, 12)),
    ((2, 1), 5, 5, (2, 4, 5, 12)),
  ],
)
def test_exam(strides, taps, blur, shape):
  def make(**arguments):
    return BlurConv(8, 12, strides=strides, taps=taps, **arguments)

  weights = 9 * 8 * 12
  macs = 2 * 35 * weights + 2 * shape[1] * shape[2] * blur * 12
  check_block(make, X, shape, params=weights + 2 * 12, macs=macs)


@pytest.mark.parametrize(
  ("taps", "weights"),
  [(2, [1, 1]), (3, [1, 2, 1]), (4, [1, 3, 3, 1]), (5, [1, 4, 6, 4, 1])],
)
@pytest.mark.parametrize("strides", [2, (3, 1), (1, 2)])
def test_equals_steps_over_reflected_images(taps, weights, strides):
  x = np.asarray(X)
  steps = (strides, strides) if isinstance(strides, int) else strides
  for axis, step in zip((1, 2), steps, strict=True):
    if step == 1:
      continue
    pads = [(0, 0)] * 4
    pads[axis] = ((taps - 1) // 2, taps // 2)
    padded = np.moveaxis(np.pad(x, pads, mode="reflect"), axis, 0)
    size = x.shape[axis]
    blurred = sum(w * padded[k : k + size] for k, w in enumerate(weights))
    x = np.moveaxis(blurred / sum(weights), 0, axis)
  wanted = x[:, :: steps[0], :: steps[1]]
  np.testing.assert_allclose(blur_pool(X, strides, taps), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 4)])
def test_constants_stay_and_narrow_images_pass(shape):
  x = jnp.full((1, *shape, 2), 3.0)
  out = blur_pool(x, 2, 5)
  assert out.shape == (1, -(-shape[0] // 2), -(-shape[1] // 2), 2)
  np.testing.assert_allclose(out, 3, rtol=1e-6)


def test_what_alternates_vanishes():
  """The highest frequency, which steps alone would take for a constant."""
  x = (-1.0) ** jnp.arange(8)
  x = jnp.broadcast_to(x[None, :, None, None], (1, 8, 8, 2))
  np.testing.assert_allclose(blur_pool(x, 2), 0, atol=1e-6)


def test_the_block_blurs_what_is_activated():
  block = BlurConv(8, 4, strides=2, rngs=nnx.Rngs(0))
  block.eval()
  np.testing.assert_allclose(
    block(X), blur_pool(block.conv(X), 2, 3), atol=1e-6
  )
  assert block.conv(X).min() == 0
  block = BlurConv(8, 4, rngs=nnx.Rngs(0))
  block.eval()
  np.testing.assert_array_equal(block(X), block.conv(X))


def test_refuses():
  with pytest.raises(ValueError, match="taps: 0 is not positive"):
    BlurConv(8, 8, taps=0, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="taps: 0 is not positive"):
    blur_pool(X, 2, 0)
  with pytest.raises(ValueError, match="strides: 0 is not 2 positive sizes"):
    blur_pool(X, 0)
