import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from effarch.learning.augment.operations import OPERATIONS, Ranges, operate

STRENGTHS = (-1.0, -0.5, -0.3, 0.0, 0.3, 0.7, 1.0)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (8, 8, 3)).astype(np.uint8)
GREY = (128, 128, 128)


def affine(image, *matrix):
  return image.transform(
    image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY
  )


# What each operation is at a strength, by the papers' tables and PIL.
TWINS = {
  "identity": lambda image, s: image,
  "shear_x": lambda image, s: affine(image, 1, 0.3 * s, 0, 0, 1, 0),
  "shear_y": lambda image, s: affine(image, 1, 0, 0, 0.3 * s, 1, 0),
  "translate_x": lambda image, s: affine(image, 1, 0, round(4 * s), 0, 1, 0),
  "translate_y": lambda image, s: affine(image, 1, 0, 0, 0, 1, round(4 * s)),
  "rotate": lambda image, s: image.rotate(30 * s, fillcolor=GREY),
  "brightness": lambda i, s: ImageEnhance.Brightness(i).enhance(1 + 0.9 * s),
  "contrast": lambda i, s: ImageEnhance.Contrast(i).enhance(1 + 0.9 * s),
  "saturation": lambda i, s: ImageEnhance.Color(i).enhance(1 + 0.9 * s),
  "sharpness": lambda i, s: ImageEnhance.Sharpness(i).enhance(1 + 0.9 * s),
  "invert": lambda image, s: ImageOps.invert(image),
  "solarize": lambda i, s: ImageOps.solarize(i, 256 * (1 - abs(s))),
  "posterize": lambda i, s: ImageOps.posterize(i, 8 - round(4 * abs(s))),
  "autocontrast": lambda image, s: ImageOps.autocontrast(image),
  "equalize": lambda image, s: ImageOps.equalize(image),
}
ROUNDED = ("brightness", "contrast", "saturation", "sharpness", "autocontrast")


@pytest.fixture(scope="module")
def run():
  return jax.jit(
    lambda images, operations, strengths: operate(
      images, operations, strengths, Ranges(pixels=4.0), 128
    )
  )


def test_every_operation_is_pils_at_every_strength(run):
  # All in one batch, as a policy mixes them.
  pairs = [(name, s) for name in OPERATIONS for s in STRENGTHS]
  operations = jnp.array([[OPERATIONS.index(name) for name, _ in pairs]])
  strengths = jnp.array([[s for _, s in pairs]])
  images = jnp.broadcast_to(IMAGES, (len(pairs), *IMAGES.shape))
  found = np.asarray(run(images, operations, strengths)).astype(int)
  for (name, strength), result in zip(pairs, found, strict=True):
    twin = TWINS[name](Image.fromarray(IMAGES), strength)
    off = np.abs(result - np.asarray(twin))
    if name == "rotate":  # Borders of pixels.
      assert (off > 0).mean() < 0.05
    else:
      assert off.max() <= 2 * (name in ROUNDED), (name, strength)
    weak = strength == 0 and name not in ("invert", "autocontrast", "equalize")
    if weak:
      np.testing.assert_array_equal(result, IMAGES)


def test_operations_follow_one_another_and_images_go_apart(run):
  names = np.array(
    [["invert", "translate_x", "equalize"], ["translate_x", "invert", "rotate"]]
  )
  operations = jnp.array([[OPERATIONS.index(n) for n in row] for row in names])
  strengths = jnp.array([[1.0, 0.5, 0.0], [0.5, 1.0, -0.4]])
  images = jnp.asarray(RANDOM.integers(0, 256, (3, 8, 8, 3)), jnp.uint8)
  found = run(images, operations, strengths)
  for place in range(3):
    one = images[place : place + 1]
    for layer in range(2):
      own = (slice(layer, layer + 1), slice(place, place + 1))
      one = operate(
        one, operations[own], strengths[own], Ranges(pixels=4.0), 128
      )
    np.testing.assert_array_equal(found[place], one[0])
  # What moves in after the inversion is not inverted, before it is.
  np.testing.assert_array_equal(found[0, :, -2:], 128)
  np.testing.assert_array_equal(found[1, :, -2:], 127)


def test_the_form_for_accelerators_gives_the_same(run, monkeypatch):
  operations = jnp.arange(30)[None] % len(OPERATIONS)
  strengths = jnp.linspace(-1, 1, 30)[None]
  images = jnp.asarray(RANDOM.integers(0, 256, (30, 8, 8, 3)), jnp.uint8)
  found = run(images, operations, strengths)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  at_once = jax.jit(lambda *given: operate(*given, Ranges(pixels=4.0), 128))(
    images, operations, strengths
  )
  np.testing.assert_array_equal(found, at_once)
