import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.automation.trial import TECHNIQUES
from effarch.infrastructure.training import Technique
from effarch.infrastructure.training.technique import apply_batch_hooks
from effarch.learning.augment import FlipTranslate
from effarch.learning.smooth import LabelSmoothing
from effarch.testing import check_technique
from effarch.testing.techniques import Classifier

IMAGES = jax.random.normal(jax.random.key(1), (64, 6, 5, 2))


TEACHER = Classifier(rngs=nnx.Rngs(1))
# What techniques without defaults need.
ARGUMENTS = {
  "alternating_flip": {"epochs": 3},
  "distill": {"teacher": TEACHER},
  "distill_features": {
    "teacher": TEACHER,
    "layers": (("hidden", "hidden"),),
    "objective": "contrastive",
  },
  "mutual_learning": {"peer": Classifier},
  "pseudo_labels": {"teacher": TEACHER},
  "self_distill": {"layers": ("hidden",)},
  "switch_out": {"vocab_size": 20},
}
# What those are for that aren't for images.
KINDS = {
  "smote": "features",
  "word_dropout": "tokens",
  "switch_out": "tokens",
  "span_masking": "tokens",
  "random_swap": "tokens",
  "random_delete": "tokens",
  "random_insert": "tokens",
  "spec_augment": "signals",
}
# Settings that do nothing.
OFF = {
  "flip_translate": {"horizontal_flip": False, "max_shift": 0},
  "rotate": {"max_degrees": 0.0},
  "shear": {"max_shear": 0.0},
  "colour_jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
  "blur": {"probability": 0.0},
  "cutout": {"size": 0},
  "random_erasing": {"probability": 0.0},
  "rand_augment": {"num_ops": 0},
  "worst_case": {"num_ops": 0},
  "mixup": {"alpha": 0.0},
  "cutmix": {"alpha": 0.0},
  "mixup_cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 0.0},
  "smote": {"probability": 0.0},
  "word_dropout": {"probability": 0.0},
  "switch_out": {"temperature": 0.0},
  "span_masking": {"rate": 0.0},
  "random_swap": {"share": 0.0},
  "random_delete": {"probability": 0.0},
  "random_insert": {"probability": 0.0},
  "spec_augment": {"num_time_masks": 0, "num_frequency_masks": 0},
  "label_smoothing": {"smoothing": 0.0},
}


# It needs a run of the exam's own model; its own test has one.
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", [n for n in TECHNIQUES if n != "pretrained"])
def test_exam(name):
  technique = TECHNIQUES[name](**ARGUMENTS.get(name, {}))
  off = OFF.get(name)
  check_technique(
    technique,
    KINDS.get(name, "images"),
    None if off is None else dataclasses.replace(technique, **off),
  )


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
class Brightening(Technique):
  """A mutant: images leave their range."""

  def batch(self, batch, rng):
    return {**batch, "inputs": batch["inputs"] + 0.1}


@dataclasses.dataclass(frozen=True)
class Averaging(Technique):
  """A mutant: one loss for the batch instead of one for each example."""

  def loss(self, loss_fn):
    def mean(model, batch):
      losses, metrics = loss_fn(model, batch)
      return losses.mean(), metrics

    return mean


@pytest.mark.parametrize("mutant", [Impure, Inflating, Brightening, Averaging])
def test_exam_fails_mutants(mutant):
  with pytest.raises(AssertionError):
    check_technique(mutant())


def test_exam_fails_what_off_leaves_on():
  with pytest.raises(AssertionError):
    check_technique(FlipTranslate(), off=FlipTranslate())


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
