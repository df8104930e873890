import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance, ImageOps

from effarch.infrastructure.data import decode
from effarch.learning.augment import Blur, ColourJitter, colour, levels

RANDOM = np.random.default_rng(0)
# Whole ranges, narrow ones, one level, and two.
LEVELS = np.concatenate(
  [
    RANDOM.integers(0, 256, (3, 9, 12, 3)),
    RANDOM.integers(60, 141, (2, 9, 12, 3)),
    np.full((1, 9, 12, 3), 77),
    RANDOM.integers(0, 2, (1, 9, 12, 3)) * 90 + 20,
  ]
).astype(np.uint8)
IMAGES = decode(LEVELS)
FACTORS = jnp.array([0.1, 0.5, 1.0, 1.3, 1.9, 0.7, 1.6])


def each(operation):
  images = [operation(Image.fromarray(x), i) for i, x in enumerate(LEVELS)]
  return np.stack([np.asarray(image) for image in images]).astype(int)


ENHANCE = {
  "brightness": ImageEnhance.Brightness,
  "contrast": ImageEnhance.Contrast,
  "saturation": ImageEnhance.Color,
  "sharpness": ImageEnhance.Sharpness,
}


@pytest.mark.parametrize("name", ENHANCE)
def test_blends_are_pils(name):
  found = getattr(colour, name)(IMAGES, FACTORS)
  expected = each(
    lambda image, i: ENHANCE[name](image).enhance(float(FACTORS[i]))
  )
  # PIL rounds the other image and rounds the blend down.
  off = np.abs((np.asarray(found) + 1) * 127.5 - expected)
  assert off.max() < 2 and off.mean() < 0.8
  np.testing.assert_allclose(found[2], IMAGES[2], atol=1e-6)


BITS, THRESHOLDS = [8, 7, 5, 4, 2, 1, 3], [0, 10, 100, 128, 200, 255, 256]
EXACT = {
  "invert": (colour.invert, lambda image, i: ImageOps.invert(image)),
  "solarize": (
    lambda x: colour.solarize(x, jnp.array(THRESHOLDS, jnp.float32)),
    lambda image, i: ImageOps.solarize(image, THRESHOLDS[i]),
  ),
  "posterize": (
    lambda x: colour.posterize(x, jnp.array(BITS, jnp.float32)),
    lambda image, i: ImageOps.posterize(image, BITS[i]),
  ),
  "equalize": (colour.equalize, lambda image, i: ImageOps.equalize(image)),
}


@pytest.mark.parametrize("name", EXACT)
def test_changes_of_levels_are_pils(name):
  ours, pils = EXACT[name]
  found = levels.encode(ours(IMAGES)).astype(int)
  np.testing.assert_array_equal(found, each(pils))


def test_autocontrast_is_pils():
  found = levels.encode(colour.autocontrast(IMAGES)).astype(int)
  expected = each(lambda image, i: ImageOps.autocontrast(image))
  # PIL rounds down.
  assert set(np.unique(found - expected)) <= {0, 1}


def test_a_single_channel_is_its_own_grey():
  images = IMAGES[..., :1]
  np.testing.assert_array_equal(colour.saturation(images, FACTORS), images)
  found = colour.contrast(images, 0 * FACTORS)
  means = np.asarray(images).mean((1, 2, 3), keepdims=True)
  np.testing.assert_allclose(found, means + 0 * found, atol=1e-6)
  with pytest.raises(ValueError, match="2 channels"):
    colour.grey(IMAGES[..., :2])


def test_blur_is_scipys():
  sigma = jnp.array([0.0, 0.1, 0.5, 0.8, 1.0, 0.7, 0.9])
  found = np.asarray(colour.blur(IMAGES, sigma, 3))
  np.testing.assert_array_equal(found[0], IMAGES[0])
  for image, result, width in zip(
    IMAGES[1:], found[1:], sigma[1:], strict=True
  ):
    expected = scipy.ndimage.gaussian_filter(
      np.asarray(image), float(width), mode="nearest", radius=3, axes=(0, 1)
    )
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_levels_and_numbers_are_one_another():
  level = jnp.arange(256, dtype=jnp.uint8)
  np.testing.assert_array_equal(levels.encode(levels.decode(level)), level)
  np.testing.assert_array_equal(levels.decode(level), decode(level))
  beyond = levels.encode(jnp.array([-1.5, 1.2]))
  np.testing.assert_array_equal(beyond, [0, 255])


def test_jitter_blends_in_its_order_with_all_of_its_range():
  technique = ColourJitter(0.2, 0.9, 0.5)
  rng = jax.random.key(5)
  found = technique.batch({"inputs": IMAGES}, rng)["inputs"]
  expected = IMAGES
  rows = zip(
    ("brightness", "contrast", "saturation"),
    (0.2, 0.9, 0.5),
    jax.random.split(rng, 3),
    strict=True,
  )
  for name, most, own in rows:
    factor = 1 + most * jax.random.uniform(own, (7,), minval=-1, maxval=1)
    expected = getattr(colour, name)(expected, factor)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blur_blurs_as_many_as_it_should():
  images = jax.random.uniform(jax.random.key(0), (200, 5, 5, 1))
  found = Blur(0.3).batch({"inputs": images}, jax.random.key(1))["inputs"]
  same = np.all(np.asarray(found) == images, axis=(1, 2, 3))
  # Of sigma near 0.1 a float can't see anything either.
  assert 120 <= same.sum() <= 180
