import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effarch.learning.augment import Smote
from effarch.learning.augment.tabular import smote

# A common class, a rare one, and one with a single example.
KINDS = np.array([0] * 50 + [1] * 9 + [2])
LABELS = jax.nn.one_hot(KINDS, 4)
FEATURES = jax.random.normal(jax.random.key(0), (60, 3))


def test_points_lie_between_an_example_and_a_near_one_of_its_class():
  features = np.asarray(FEATURES)
  seen = set()
  for seed in range(30):
    made, place = smote(FEATURES, LABELS, jax.random.key(seed), 4)
    for point, start in zip(np.asarray(made), np.asarray(place), strict=True):
      others = np.flatnonzero(KINDS[start] == KINDS)
      others = others[others != start]
      if not len(others):
        np.testing.assert_array_equal(point, features[start])
        continue
      distance = np.linalg.norm(features[others] - features[start], axis=1)
      near = others[np.argsort(distance)[:4]]
      line = features[near] - features[start]
      share = ((point - features[start]) * line).sum(1) / (line**2).sum(1)
      off = np.abs(features[start] + share[:, None] * line - point).max(1)
      fits = (off < 1e-5) & (share >= -1e-5) & (share <= 1 + 1e-5)
      assert fits.sum() == 1
      seen.add((int(start), int(np.argmax(fits))))
  assert {rank for _, rank in seen} == {0, 1, 2, 3}


def test_classes_are_drawn_alike():
  drawn = [
    smote(FEATURES, LABELS, jax.random.key(seed), 4)[1] for seed in range(50)
  ]
  counts = np.bincount(KINDS[np.concatenate(drawn)], minlength=3)
  np.testing.assert_allclose(counts, 1000, atol=130)


def test_labels_and_places_come_with_the_example():
  batch = {"inputs": FEATURES, "labels": LABELS, "index": 100 + jnp.arange(60)}
  found = Smote(0.5).batch(batch, jax.random.key(1))
  place = np.asarray(found["index"]) - 100
  np.testing.assert_array_equal(found["labels"], LABELS[place])
  kept = np.all(np.asarray(found["inputs"]) == FEATURES, 1)
  assert 15 < kept.sum() < 45
  np.testing.assert_array_equal(place[kept], np.arange(60)[kept])


def test_rare_classes_become_more_frequent():
  batch = {"inputs": FEATURES, "labels": LABELS, "index": jnp.arange(60)}
  found = Smote(1.0).batch(batch, jax.random.key(1))["labels"].sum(0)
  assert found[1] > 12 and found[0] < 30
  assert found.sum() == pytest.approx(60)
