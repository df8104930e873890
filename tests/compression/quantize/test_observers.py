"""Ranges, against what they say they are, computed otherwise."""

import numpy as np
import pytest
from scipy import optimize

from effarch.compression.quantize import OBSERVERS
from effarch.compression.quantize.observers import Percentile

BATCHES = [
  np.random.default_rng(seed).standard_t(3, 20_000).astype(np.float32)
  for seed in range(3)
]
ALL = np.concatenate(BATCHES)


def observed(name, batches=BATCHES, levels=256):
  observer = OBSERVERS[name]()
  for batch in batches:
    observer.update(batch)
  return observer.range(levels)


def test_min_max_are_the_ends():
  assert observed("min_max") == (ALL.min(), ALL.max())


def test_the_moving_average_forgets():
  low, high = BATCHES[0].min(), BATCHES[0].max()
  for batch in BATCHES[1:]:
    low, high = 0.9 * low + 0.1 * batch.min(), 0.9 * high + 0.1 * batch.max()
  np.testing.assert_allclose(observed("moving_average"), (low, high), rtol=1e-6)


def test_percentiles_are_numpys():
  low, high = observed("percentile")
  width = np.ptp(ALL) / 2048
  expected = np.percentile(ALL, [0.01, 99.99])
  # Bins were spread anew as the range grew: a few widths are lost.
  np.testing.assert_allclose([low, high], expected, atol=4 * width)
  assert ALL.min() < low
  assert high < ALL.max()


@pytest.mark.parametrize("levels", [16, 256])
def test_mse_has_about_the_least_error_that_any_range_has(levels):
  def error(part):
    low, high = part * ALL.min(), part * ALL.max()
    scale = (high - low) / (levels - 1)
    return np.square(
      np.round(np.clip(ALL, low, high) / scale) * scale - ALL
    ).mean()

  found = observed("mse", levels=levels)[0] / ALL.min()
  best = min(map(error, np.linspace(0.02, 1, 300)))
  assert error(found) < 1.1 * best
  assert error(found) < {16: 0.5, 256: 0.9}[levels] * error(1.0)
  polished = optimize.minimize_scalar(error, bounds=(0.5 * found, 2 * found))
  assert error(found) < 1.1 * polished.fun


def test_entropy_clips_rare_numbers_and_keeps_even_ones():
  _, high = observed("entropy", levels=16)
  assert 0.01 < high / ALL.max() < 0.5
  even = np.linspace(-1, 1, 20_000, dtype=np.float32)
  found = observed("entropy", [even], levels=16)
  np.testing.assert_allclose(found, (-1, 1), atol=0.05)


@pytest.mark.parametrize("name", OBSERVERS)
def test_zero_is_within_whatever_is_seen(name):
  for batch in (np.zeros(4), np.full(9, 3.0), np.full(9, -3.0), np.zeros(0)):
    low, high = observed(name, [batch.astype(np.float32)])
    assert low <= 0 <= high
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("percent", [50.0, 101.0])
def test_a_wrong_percent_is_told(percent):
  with pytest.raises(ValueError, match=f"percent: {percent} is not in"):
    Percentile(percent)
