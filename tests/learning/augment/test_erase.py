import jax
import jax.numpy as jnp
import numpy as np

from effarch.learning.augment.erase import (
  cutout,
  random_boxes,
  random_erasing,
  rectangles,
)

IMAGES = jax.random.uniform(jax.random.key(0), (300, 8, 10, 2), maxval=0.9)
draw = jax.jit(random_boxes, static_argnums=range(1, 5))


def test_rectangles_are_loops():
  corners = np.array([[0, 0], [-2, 3], [6, 8], [3, 3]])
  sizes = np.array([[2, 3], [4, 4], [9, 9], [0, 5]])
  found = rectangles((8, 10), jnp.asarray(corners), jnp.asarray(sizes))
  for place in range(4):
    expected = np.zeros((8, 10), bool)
    for row in range(8):
      for column in range(10):
        offset = np.array([row, column]) - corners[place]
        expected[row, column] = np.all((offset >= 0) & (offset < sizes[place]))
    np.testing.assert_array_equal(found[place], expected)


def test_cutout_erases_a_square_around_any_pixel():
  found = np.asarray(cutout(IMAGES, jax.random.key(1), 4, fill=-0.5))
  seen = set()
  for image, result in zip(np.asarray(IMAGES), found, strict=True):
    erased = (result == -0.5).all(-1)
    np.testing.assert_array_equal(result[~erased], image[~erased])
    twins = [
      (y, x)
      for y in range(8)
      for x in range(10)
      if np.array_equal(
        erased,
        (abs(np.arange(8) - y + 0.5) < 2)[:, None]
        & (abs(np.arange(10) - x + 0.5) < 2),
      )
    ]
    assert len(twins) == 1
    seen.update(twins)
  assert len(seen) > 70  # Of 80 pixels, 300 images meet most.


def test_random_erasing_fills_a_share_of_some_images_with_noise():
  erase = jax.jit(lambda x, rng: random_erasing(x, rng, 0.6, 0.1, 0.3, 2.0))
  found = erase(IMAGES - 0.9, jax.random.key(1))
  changed = np.any(np.asarray(found) != IMAGES - 0.9, -1)
  erased = changed.any((1, 2))
  assert 150 <= erased.sum() <= 210
  noise = np.asarray(found)[changed]
  assert np.abs(noise).max() <= 1 and abs(noise.mean()) < 0.05
  assert abs(noise.std() - 3**-0.5) < 0.03


def test_boxes_keep_to_area_aspect_and_image():
  rng = jax.random.key(2)
  corners, sizes = map(np.asarray, draw(rng, 2000, (40, 60), (0.1, 0.3), 2.0))
  assert (corners >= 0).all() and (corners + sizes <= [40, 60]).all()
  area, aspect = sizes.prod(1) / 2400, sizes[:, 0] / sizes[:, 1]
  # Sides are whole numbers.
  assert 0.09 < area.min() < 0.11 and 0.28 < area.max() < 0.32
  assert 0.45 < aspect.min() < 0.55 and 1.8 < aspect.max() < 2.2
  assert abs(np.log(aspect).mean()) < 0.05
  # All places come up: a box's room is used to both its ends.
  room = np.array([40, 60]) - sizes
  assert abs((corners / np.maximum(room, 1)).mean() - 0.5) < 0.02
  assert (corners == 0).any() and (corners == room).any()


def test_what_fits_no_image_is_left_out():
  rng = jax.random.key(2)
  _, sizes = draw(rng, 50, (2, 200), (0.9, 1.0), 1.0)
  np.testing.assert_array_equal(sizes, 0)
