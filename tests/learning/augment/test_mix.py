import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from effarch.learning.augment import CutMix, Mixup, MixupCutMix
from effarch.learning.augment.mix import cutmix, mixup, shares

IMAGES = jax.random.uniform(jax.random.key(0), (40, 6, 8, 2))
LABELS = jax.nn.softmax(jax.random.normal(jax.random.key(1), (40, 5)))
BATCH = {"inputs": IMAGES, "labels": LABELS}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_beta(alpha):
  found = shares(jax.random.key(0), 20000, alpha)
  test = scipy.stats.kstest(found, scipy.stats.beta(alpha, alpha).cdf)
  assert test.statistic < 0.02


def test_mixup_is_a_loop_over_pairs():
  share = np.linspace(0, 1, 40, dtype=np.float32)
  found = mixup(IMAGES, jnp.asarray(share))
  images = np.asarray(IMAGES)
  for place, part in enumerate(share):
    expected = part * images[place] + (1 - part) * images[place - 1]
    np.testing.assert_allclose(found[place], expected, atol=1e-6)
  np.testing.assert_array_equal(found[-1], IMAGES[-1])  # All its own.


def test_mixup_mixes_labels_as_inputs():
  found = Mixup(1.0).batch(BATCH, jax.random.key(2))
  images, partners = np.asarray(IMAGES), np.roll(IMAGES, 1, 0)
  share = np.mean((found["inputs"] - partners) / (images - partners), (1, 2, 3))
  assert share.std() > 0.2
  expected = share[:, None] * LABELS + (1 - share)[:, None] * jnp.roll(
    LABELS, 1, 0
  )
  np.testing.assert_allclose(found["labels"], expected, atol=1e-3)


def test_cutmix_pastes_one_rectangle_and_counts_its_pixels():
  share = jnp.linspace(0.05, 1, 40)
  images = np.asarray(IMAGES)
  found, stays = map(np.asarray, cutmix(IMAGES, jax.random.key(1), share))
  for place in range(40):
    pasted = np.any(found[place] != images[place], -1)
    rows, columns = pasted.any(1), pasted.any(0)
    np.testing.assert_array_equal(pasted, rows[:, None] & columns)
    for line in (rows, columns):
      edges = np.flatnonzero(np.diff(line.astype(int)))
      assert len(edges) <= 2
    np.testing.assert_array_equal(
      found[place][pasted], images[place - 1][pasted]
    )
    assert stays[place] == pytest.approx(1 - pasted.mean(), abs=1e-6)
    side = np.sqrt(1 - float(share[place]))
    assert rows.sum() <= int(6 * side) and columns.sum() <= int(8 * side)
  whole = [
    np.any(f != i, -1).sum()
    == int(6 * np.sqrt(1 - s)) * int(8 * np.sqrt(1 - s))
    for f, i, s in zip(found, images, np.asarray(share), strict=True)
  ]
  assert sum(whole) > 5  # Those that no border cuts.


def test_cutmix_mixes_labels_by_pixels():
  found = CutMix(1.0).batch(BATCH, jax.random.key(2))
  pasted = np.any(np.asarray(found["inputs"]) != IMAGES, -1).mean((1, 2))
  assert pasted.std() > 0.1
  expected = mixup(LABELS, jnp.asarray(1 - pasted, jnp.float32))
  np.testing.assert_allclose(found["labels"], expected, atol=1e-6)


def test_both_share_out_the_batch():
  rng = jax.random.key(3)
  found = MixupCutMix(0.8, 1.0, 0.4).batch(BATCH, rng)
  _, mixup_rng, cutmix_rng = jax.random.split(rng, 3)
  one = Mixup(0.8).batch(BATCH, mixup_rng)
  other = CutMix(1.0).batch(BATCH, cutmix_rng)

  def same(part):
    inputs = np.all(np.asarray(found["inputs"]) == part["inputs"], (1, 2, 3))
    labels = np.all(np.asarray(found["labels"]) == part["labels"], 1)
    return inputs & labels

  assert np.all(same(one) | same(other))
  assert 5 < same(other).sum() < 28


@pytest.mark.parametrize("technique", [Mixup(), CutMix(), MixupCutMix()])
def test_labels_keep_their_mass(technique):
  found = technique.batch(BATCH, jax.random.key(4))["labels"]
  np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
  assert np.any(found != LABELS) and np.all(found >= 0)
