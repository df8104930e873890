import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effarch.learning.augment import SpecAugment
from effarch.learning.augment.signals import bands, mask_frequency, mask_time

SIGNALS = jax.random.normal(jax.random.key(0), (300, 40, 2))


def test_bands_have_every_width_and_place():
  found = np.asarray(bands(jax.random.key(1), 3000, 12, 1, 4))
  widths = found.sum(1)
  edges = np.abs(np.diff(np.pad(found, ((0, 0), (1, 1))).astype(int))).sum(1)
  np.testing.assert_array_equal(edges, 2 * (widths > 0))
  counts = np.bincount(widths, minlength=5)
  np.testing.assert_allclose(counts, 600, atol=110)
  for width in (1, 4):
    starts = found[widths == width].argmax(1)
    assert set(starts) == set(range(13 - width))
  two = np.asarray(bands(jax.random.key(1), 3000, 12, 2, 4)).sum(1)
  assert two.max() == 8


def test_masks_are_loops_over_sines():
  masked = bands(jax.random.key(1), 300, 21, 1, 3)
  found = np.asarray(mask_frequency(SIGNALS, masked))
  time = np.arange(40)
  for row in range(20):
    expected = np.array(SIGNALS[row], np.float64)
    for frequency in np.flatnonzero(masked[row]):
      angle = 2 * np.pi * frequency * time / 40
      for wave in (np.cos(angle), np.sin(angle)):
        if wave @ wave > 1e-9:
          share = wave @ expected / (wave @ wave)
          expected -= wave[:, None] * share
    np.testing.assert_allclose(found[row], expected, atol=1e-5)
  untouched = ~np.asarray(masked).any(1)
  np.testing.assert_array_equal(found[untouched], SIGNALS[untouched])


def test_time_masks_are_zeros():
  masked = bands(jax.random.key(2), 300, 40, 2, 9)
  found = np.array(SIGNALS)
  for row, place in np.argwhere(np.asarray(masked)):
    found[row, place] = 0
  np.testing.assert_array_equal(mask_time(SIGNALS, masked), found)


@pytest.mark.parametrize("length", [39, 40])
def test_technique_masks_frequencies_and_then_time(length):
  signals = SIGNALS[:, :length]
  rng = jax.random.key(3)
  found = SpecAugment(2, 9, 1, 4).batch({"inputs": signals}, rng)["inputs"]
  time_rng, frequency_rng = jax.random.split(rng)
  expected = mask_frequency(
    signals, bands(frequency_rng, 300, length // 2 + 1, 1, 4)
  )
  expected = mask_time(expected, bands(time_rng, 300, length, 2, 9))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert jnp.any(found == 0)
