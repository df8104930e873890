import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effarch.learning.augment import (
  AutoAugment,
  RandAugment,
  TrivialAugment,
  auto_augment,
  levels,
  policies,
)
from effarch.learning.augment.operations import OPERATIONS, Ranges

LEVELS = jax.random.randint(jax.random.key(0), (8, 4, 4, 3), 0, 256)
IMAGES = levels.decode(LEVELS.astype(jnp.uint8))
POLICIES = {
  "rand_augment": (policies, policies.rand_augment),
  "trivial_augment": (policies, policies.trivial_augment),
  "auto_augment": (auto_augment, auto_augment.auto_augment),
}


def asked(monkeypatch, name, number, *arguments):
  """What a policy asks `operate` for, of so many images."""
  module, policy = POLICIES[name]
  calls = []

  def spy(images, *given):
    calls.append(given)
    return images

  monkeypatch.setattr(module, "operate", spy)
  images = jnp.broadcast_to(IMAGES[:1], (number, *IMAGES.shape[1:]))
  found = policy(images, jax.random.key(1), *arguments)
  np.testing.assert_array_equal(found, images)  # Levels are exact.
  ((operations, strengths, ranges, fill),) = calls
  return np.asarray(operations), np.asarray(strengths), ranges, fill


def test_rand_augment_draws_fourteen_operations_alike(monkeypatch):
  operations, strengths, ranges, fill = asked(
    monkeypatch, "rand_augment", 7000, 3, 9.0, 5.0
  )
  chex.assert_shape(operations, (3, 7000))
  counts = np.bincount(operations.ravel(), minlength=len(OPERATIONS))
  assert counts[OPERATIONS.index("invert")] == 0
  counts = np.delete(counts, OPERATIONS.index("invert"))
  assert len(counts) == 14
  np.testing.assert_allclose(counts, 1500, atol=5 * np.sqrt(1500))
  np.testing.assert_allclose(np.abs(strengths), 0.3, rtol=1e-6)
  assert abs(np.sign(strengths).mean()) < 0.03
  # Layers and images are drawn apart.
  assert (operations[0] == operations[1]).mean() < 0.1
  assert (ranges, fill) == (Ranges(pixels=5.0), 128)


def test_trivial_augment_draws_one_operation_and_any_strength(monkeypatch):
  operations, strengths, ranges, fill = asked(
    monkeypatch, "trivial_augment", 7000
  )
  chex.assert_shape(operations, (1, 7000))
  assert len(np.unique(operations)) == 14
  bins = np.round(np.abs(strengths) * 30)
  np.testing.assert_allclose(np.abs(strengths) * 30, bins, atol=1e-5)
  assert set(bins.ravel()) == set(range(31))
  assert abs(np.sign(strengths).mean()) < 0.05
  wide = Ranges(degrees=135.0, shear=0.99, pixels=32.0, factor=0.99, bits=6)
  assert (ranges, fill) == (wide, 0)


def test_auto_augment_draws_pairs_by_their_probabilities(monkeypatch):
  operations, strengths, ranges, fill = asked(
    monkeypatch, "auto_augment", 20000
  )
  chex.assert_shape(operations, (2, 20000))
  for layer in range(2):
    for name in OPERATIONS[1:]:
      rows = [row[layer] for row in auto_augment.POLICY]
      share = sum(p for n, p, _ in rows if n == name) / 25
      found = operations[layer] == OPERATIONS.index(name)
      assert found.mean() == pytest.approx(share, abs=0.012), name
      seen = np.unique(np.round(strengths[layer][found], 4))
      magnitudes = {m / 9 for n, p, m in rows if n == name and p}
      if name in ("brightness", "contrast", "saturation", "sharpness"):
        expected = {2 * m - 1 for m in magnitudes}  # Factors 0.1 to 1.9.
      elif name.startswith(("shear", "translate", "rotate")):
        expected = magnitudes | {-m for m in magnitudes}
      else:
        expected = magnitudes
      np.testing.assert_allclose(seen, sorted(expected), atol=1e-4)
  assert (ranges, fill) == (Ranges(), 128)
  # Operations of a pair come together: after a rotation only one can follow.
  turned = operations[0] == OPERATIONS.index("rotate")
  after = {0, OPERATIONS.index("translate_x")}
  assert set(operations[1][turned]) == after


@pytest.mark.parametrize(
  ("technique", "name"),
  [
    (RandAugment(3, 12.0, 4.0), "rand_augment"),
    (AutoAugment(), "auto_augment"),
    (TrivialAugment(), "trivial_augment"),
  ],
)
def test_techniques_are_their_functions(technique, name):
  rng = jax.random.key(2)
  arguments = (3, 12.0, 4.0) if name == "rand_augment" else ()
  run = jax.jit(lambda x: technique.batch({"inputs": x}, rng)["inputs"])
  twin = jax.jit(lambda x: POLICIES[name][1](x, rng, *arguments))
  found = run(IMAGES)
  np.testing.assert_array_equal(found, twin(IMAGES))
  assert np.any(found != IMAGES)
