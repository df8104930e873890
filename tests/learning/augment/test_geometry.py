import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from effarch.learning.augment import Rotate, Shear
from effarch.learning.augment.geometry import (
  affine,
  rotate,
  rotation,
  shear,
  shearing,
  translation,
)

RANDOM = np.random.default_rng(0)
LEVELS = RANDOM.integers(0, 256, (6, 9, 12, 3)).astype(np.uint8)
IMAGES = jnp.asarray(RANDOM.uniform(-1, 1, (6, 9, 12, 2)), jnp.float32)
DEGREES = jnp.array([0.0, 9.0, -30.0, 45.0, 90.0, 135.0])
SLOPES = jnp.array([0.0, 0.09, -0.3, 0.17, 0.99, -0.61])
PIXELS = jnp.array([0.0, 1.0, -3.0, 8.0, 20.0, -12.0])


def pil(operation):
  images = [operation(Image.fromarray(x), i) for i, x in enumerate(LEVELS)]
  return np.stack([np.asarray(image) for image in images])


def test_rotation_is_pils():
  found = affine(jnp.asarray(LEVELS), rotation(DEGREES, (4.5, 6.0)), fill=128)
  expected = pil(
    lambda image, i: image.rotate(float(DEGREES[i]), fillcolor=(128, 128, 128))
  )
  differ = (found != expected).any(-1).mean((1, 2))
  # Where a place lies on the border of two pixels either is right.
  assert differ.max() < 0.02, differ


@pytest.mark.parametrize(
  ("matrices", "of"),
  [
    (shearing(0 * SLOPES, SLOPES), lambda i: (1, float(SLOPES[i]), 0, 0, 1, 0)),
    (shearing(SLOPES, 0 * SLOPES), lambda i: (1, 0, 0, float(SLOPES[i]), 1, 0)),
    (
      translation(0 * PIXELS, PIXELS),
      lambda i: (1, 0, float(PIXELS[i]), 0, 1, 0),
    ),
    (
      translation(PIXELS, 0 * PIXELS),
      lambda i: (1, 0, 0, 0, 1, float(PIXELS[i])),
    ),
  ],
)
def test_shears_and_translations_are_pils(matrices, of):
  found = affine(jnp.asarray(LEVELS), matrices, fill=128)
  expected = pil(
    lambda image, i: image.transform(
      image.size, Image.Transform.AFFINE, of(i), fillcolor=(128, 128, 128)
    )
  )
  np.testing.assert_array_equal(found, expected)


def scipys(matrix):
  """The bilinear twin, with places of pixels' middles and black around."""

  def resample(image, matrix):
    linear = matrix[:, :2]
    offset = linear @ [0.5, 0.5] + matrix[:, 2] - 0.5
    return scipy.ndimage.affine_transform(
      image, linear, offset, order=1, mode="grid-constant", cval=-1.0
    )

  channels = [
    [resample(image[..., c], m) for c in range(2)]
    for image, m in zip(np.asarray(IMAGES), np.asarray(matrix), strict=True)
  ]
  return np.moveaxis(np.array(channels), 1, -1)


def test_bilinear_rotation_is_scipys():
  found = rotate(IMAGES, DEGREES)
  expected = scipys(rotation(DEGREES, (4.5, 6.0)))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bilinear_shear_is_scipys_and_keeps_the_middle():
  y, x = SLOPES, SLOPES[::-1]
  found = shear(IMAGES, y, x)
  expected = scipys(shearing(y, x, (4.5, 6.0)))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  spot = jnp.full((6, 9, 13, 1), -1.0).at[:, 4, 6].set(1.0)
  np.testing.assert_allclose(shear(spot, y, x)[:, 4, 6], 1.0, atol=1e-5)


def test_a_quarter_turn_is_exact():
  square = IMAGES[:, :, :9]
  found = rotate(square, jnp.full(6, 90.0), bilinear=False)
  np.testing.assert_array_equal(found, np.rot90(square, axes=(1, 2)))


@pytest.mark.parametrize(
  ("technique", "twin"),
  [
    (
      Rotate(max_degrees=20.0),
      lambda x, rng: rotate(
        x, jax.random.uniform(rng, (6,), minval=-20, maxval=20)
      ),
    ),
    (
      Shear(max_shear=0.4, fill=0.0),
      lambda x, rng: shear(
        x,
        *jax.random.uniform(rng, (2, 6), minval=-0.4, maxval=0.4),
        fill=0.0,
      ),
    ),
  ],
)
def test_techniques_use_their_whole_range(technique, twin):
  rng = jax.random.key(3)
  found = technique.batch({"inputs": IMAGES}, rng)["inputs"]
  np.testing.assert_array_equal(found, twin(IMAGES, rng))
