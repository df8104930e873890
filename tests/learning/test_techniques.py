import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.automation.trial import TECHNIQUES
from effarch.infrastructure.training import Technique
from effarch.infrastructure.training.technique import apply_batch_hooks
from effarch.learning.augment import FlipTranslate, flip, translate
from effarch.learning.smooth import LabelSmoothing
from effarch.testing import check_technique

IMAGES = jax.random.normal(jax.random.key(1), (64, 6, 5, 2))


# It needs a run of the exam's own model; its own test has one.
@pytest.mark.parametrize("name", [n for n in TECHNIQUES if n != "pretrained"])
def test_exam(name):
  check_technique(TECHNIQUES[name]())


@dataclasses.dataclass(frozen=True)
class Impure(Technique):
  """A mutant: draws other numbers at every call."""

  def batch(self, batch, rng):
    noise = np.random.default_rng().normal()
    return {**batch, "inputs": batch["inputs"] + noise}


@dataclasses.dataclass(frozen=True)
class Inflating(Technique):
  """A mutant: labels that are no distributions."""

  def batch(self, batch, rng):
    return {**batch, "labels": 2 * batch["labels"]}


@dataclasses.dataclass(frozen=True)
class Averaging(Technique):
  """A mutant: one loss for the batch instead of one for each example."""

  def loss(self, loss_fn):
    def mean(model, batch):
      losses, metrics = loss_fn(model, batch)
      return losses.mean(), metrics

    return mean


@pytest.mark.parametrize("mutant", [Impure, Inflating, Averaging])
def test_exam_fails_mutants(mutant):
  with pytest.raises(AssertionError):
    check_technique(mutant())


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


def test_off_is_absent():
  batch = {"inputs": IMAGES, "labels": jnp.ones((64, 1))}
  off = FlipTranslate(horizontal_flip=False, max_shift=0)
  changed = apply_batch_hooks([off], batch, jax.random.key(0))
  np.testing.assert_array_equal(changed["inputs"], IMAGES)


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


def test_another_technique_leaves_random_numbers_as_they_were():
  batch = {"inputs": IMAGES, "labels": jnp.ones((64, 1))}
  key = jax.random.key(0)
  alone = apply_batch_hooks([FlipTranslate()], batch, key)
  behind = apply_batch_hooks([LabelSmoothing(), FlipTranslate()], batch, key)
  np.testing.assert_array_equal(alone["inputs"], behind["inputs"])


@dataclasses.dataclass(frozen=True)
class Noise(Technique):
  """Adds its random numbers."""

  def batch(self, batch, rng):
    return {"inputs": batch["inputs"] + jax.random.normal(rng, (8,))}


@dataclasses.dataclass(frozen=True)
class OtherNoise(Noise):
  """The same of another class."""


@pytest.mark.parametrize("second", [Noise, OtherNoise])
def test_no_two_techniques_get_the_same_random_numbers(second):
  def added(*techniques):
    batch = {"inputs": jnp.zeros(8)}
    return apply_batch_hooks(techniques, batch, jax.random.key(0))["inputs"]

  first = added(Noise())
  both = added(Noise(), second())
  assert not np.isclose(both - first, first, rtol=1e-3).any()


def test_label_smoothing_equals_its_formula():
  logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
  labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
  labels[4] = 0  # Nothing is asked there.

  class Constant(nnx.Module):
    def __call__(self, x):
      return jnp.asarray(logits)

  def cross_entropy(model, batch):
    log_p = jax.nn.log_softmax(model(batch["inputs"]))
    return -(batch["labels"] * log_p).sum(-1), {}

  batch = {"inputs": jnp.zeros((5, 1)), "labels": jnp.asarray(labels)}
  losses, _ = LabelSmoothing(0.2).loss(cross_entropy)(Constant(), batch)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  expected = -0.8 * (labels * log_p).sum(-1) - 0.2 * log_p.mean(-1)
  expected[4] = 0
  np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ("technique", "arguments"),
  [(FlipTranslate, {"max_shift": -1}), (LabelSmoothing, {"smoothing": 1.0})],
)
def test_refuses_the_impossible(technique, arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    technique(**arguments)
