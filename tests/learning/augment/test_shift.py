import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effarch.learning.augment import AlternatingFlip, FlipTranslate
from effarch.learning.augment.shift import alternating, flip, translate

IMAGES = jax.random.normal(jax.random.key(1), (64, 6, 5, 2))


def test_flip_mirrors_about_half_and_nothing_else():
  flipped = flip(IMAGES, jax.random.key(0))
  mirrored = np.all(flipped == IMAGES[:, :, ::-1], axis=(1, 2, 3))
  kept = np.all(flipped == IMAGES, axis=(1, 2, 3))
  assert np.all(mirrored ^ kept)
  assert 16 < mirrored.sum() < 48


def test_translate_moves_whole_images_and_fills_with_black():
  moved = np.asarray(translate(IMAGES, jax.random.key(0), 2))
  seen = set()
  for image, result in zip(np.asarray(IMAGES), moved, strict=True):
    margin = ((2, 2), (2, 2), (0, 0))
    padded = np.pad(image, margin, constant_values=-1.0)
    found = [
      (i, j)
      for i in range(5)
      for j in range(5)
      if np.array_equal(padded[i : i + 6, j : j + 5], result)
    ]
    assert len(found) == 1
    seen.add(found[0])
  assert len(seen) > 15  # Of 25 shifts, 64 images meet most.


@pytest.mark.parametrize(
  ("horizontal_flip", "max_shift"), [(True, 0), (False, 3), (True, 3)]
)
def test_flip_and_shift_draw_numbers_of_their_own(horizontal_flip, max_shift):
  key = jax.random.key(0)
  flip_rng, shift_rng = jax.random.split(key)
  expected = flip(IMAGES, flip_rng) if horizontal_flip else IMAGES
  expected = translate(expected, shift_rng, max_shift)
  technique = FlipTranslate(horizontal_flip, max_shift)
  changed = technique.batch({"inputs": IMAGES}, key)
  np.testing.assert_array_equal(changed["inputs"], expected)


def mirrored(epochs, steps, seed=0):
  """Which of the images each step mirrors, by the loop's own arithmetic."""
  technique = AlternatingFlip(epochs, seed)

  @jax.jit
  def run(step):
    progress = step / (epochs * steps)
    batch = {"inputs": IMAGES, "index": jnp.arange(64), "progress": progress}
    return technique.batch(batch, jax.random.key(step))["inputs"]

  rows = []
  for step in range(epochs * steps):
    images = run(jnp.int32(step))
    rows.append(np.all(images == IMAGES[:, :, ::-1], axis=(1, 2, 3)))
    kept = np.all(images == IMAGES, axis=(1, 2, 3))
    assert np.all(kept ^ rows[-1])
  return np.array(rows).reshape(epochs, steps, -1)


def test_alternating_flip_mirrors_each_image_every_other_epoch():
  # 7 epochs of 3 steps: the shares done are no exact floats.
  found = mirrored(7, 3)
  assert 16 < found[0, 0].sum() < 48
  for epoch in range(7):
    for step in range(3):
      expected = found[0, 0] ^ bool(epoch % 2)
      np.testing.assert_array_equal(found[epoch, step], expected)


def test_alternating_flips_seed_decides_of_the_first_epoch():
  assert np.any(mirrored(1, 1, seed=0) != mirrored(1, 1, seed=1))


@pytest.mark.parametrize("steps", [1, 3, 391, 1563])
def test_alternating_flip_counts_epochs_exactly(steps):
  # Every step of a long training, at once.
  epochs = 200
  step = jnp.arange(epochs * steps)
  progress = step / (epochs * steps)
  found = jax.vmap(lambda p: alternating(jnp.arange(1), p, epochs, 0)[0])(
    progress
  )
  epoch = np.arange(epochs * steps) // steps
  np.testing.assert_array_equal(found ^ found[0], epoch % 2 == 1)
