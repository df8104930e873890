"""Losses of logits in the loop's terms, and labels that a teacher makes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.training import classification_loss
from effarch.infrastructure.training.technique import apply_batch_hooks
from effarch.learning import Distill, LabelSmoothing, PseudoLabels
from effarch.learning.distill import losses
from tests.learning.distill.nets import blobs

TRAIN = blobs(8)
LOGITS = jax.random.normal(jax.random.key(0), (8, 3))


def says(inputs):
  """A teacher that knows the batch."""
  del inputs
  return LOGITS


class Logits(nnx.Module):
  """A model that is its logits."""

  def __init__(self, logits):
    self.logits = nnx.data(logits)

  def __call__(self, x):
    del x
    return self.logits


def trained_on(technique, model, batch, loss_fn=classification_loss):
  batch = {**batch, "constants": technique.constants(TRAIN)}
  return technique.loss(loss_fn)(model, batch)


@pytest.mark.parametrize(
  ("objective", "distance"),
  [
    ("soft_labels", lambda s, _: losses.soft_labels(s, LOGITS, 2.0)),
    ("logits", lambda s, _: losses.logit_matching(s, LOGITS)),
    ("decoupled", lambda s, y: losses.decoupled(s, LOGITS, y, 2.0, 5.0)),
  ],
)
def test_the_loss_is_the_mixture(objective, distance, net, batch):
  net.eval()
  technique = Distill(says, None, False, objective, 0.3, 2.0, 5.0)
  found, metrics = trained_on(technique, net, batch)
  plain, expected_metrics = classification_loss(net, batch)
  labels = batch["labels"]
  expected = 0.7 * plain + 0.3 * distance(net(batch["inputs"]), labels)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_array_equal(
    metrics["accuracy"], expected_metrics["accuracy"]
  )


def test_the_gradient_of_logits_is_the_papers(batch):
  """`alpha T (p_s - p_t) + (1 - alpha) (q_s - label)`."""
  technique = Distill(says, alpha=0.3, temperature=4.0)
  student = jax.random.normal(jax.random.key(1), (8, 3))
  found = jax.grad(lambda s: trained_on(technique, Logits(s), batch)[0].sum())(
    student
  )
  soft = jax.nn.softmax(student / 4) - jax.nn.softmax(LOGITS / 4)
  labels = batch["labels"]
  hard = jax.nn.softmax(student) * labels.sum(-1, keepdims=True) - labels
  np.testing.assert_allclose(found, 1.2 * soft + 0.7 * hard, atol=1e-6)


def test_without_a_share_it_is_absent(net, example):
  technique = Distill("nowhere", print, alpha=0.0)
  assert technique.loss(classification_loss) is classification_loss
  assert technique.constants(TRAIN) == {}
  assert technique.model(net, example) is net


def test_it_composes_with_another_loss(net, batch):
  net.eval()
  smooth = LabelSmoothing(0.2).loss(classification_loss)
  found, _ = trained_on(Distill(says, alpha=0.5), net, batch, smooth)
  plain, _ = smooth(net, batch)
  soft = losses.soft_labels(net(batch["inputs"]), LOGITS, 4.0)
  np.testing.assert_allclose(found, 0.5 * (plain + soft), rtol=1e-6)


def test_tokens_count_where_they_are_asked():
  teacher = jax.random.normal(jax.random.key(2), (2, 4, 3))
  tokens = jnp.asarray([[0, 1, 2, 0], [1, 1, 0, 0]])
  asked = np.array([[1, 1, 0, 1], [0, 0, 0, 0]])
  batch = {
    "inputs": tokens,
    "labels": jax.nn.one_hot(tokens, 3) * asked[..., None],
    "index": jnp.arange(2),
  }
  student = jax.random.normal(jax.random.key(3), (2, 4, 3))
  technique = Distill(lambda x: teacher, alpha=1.0)
  found, _ = trained_on(technique, Logits(student), batch)
  each = losses.soft_labels(student, teacher, 4.0)
  expected = [(each[0] * asked[0]).sum() / 3, 0.0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_only_unlabelled_examples_of_sure_classes_get_a_label():
  sure, unsure = [0.0, 5.0, 0.0], [0.0, 1.0, 0.0]
  teacher = jnp.asarray([sure, sure, unsure])
  labels = jnp.asarray([[0.5, 0.0, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
  technique = PseudoLabels(lambda x: teacher, threshold=0.9)
  batch = {"inputs": jnp.zeros((3, 1)), "labels": labels}
  batch["constants"] = technique.constants(TRAIN)
  changed = apply_batch_hooks([technique], batch, jax.random.key(0))
  np.testing.assert_array_equal(
    changed["labels"], [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]]
  )
  # What stays unlabelled is not learned from.
  np.testing.assert_array_equal(
    optax.softmax_cross_entropy(teacher, changed["labels"])[2], 0
  )


@pytest.mark.parametrize(
  ("technique", "arguments"),
  [
    (Distill, {"alpha": 1.1}),
    (Distill, {"temperature": 0.0}),
    (Distill, {"beta": -1.0}),
    (Distill, {"objective": "soft_label"}),
    (PseudoLabels, {"threshold": 2.0}),
  ],
)
def test_refuses_the_impossible(technique, arguments):
  with pytest.raises(ValueError, match=f"^{next(iter(arguments))}: "):
    technique(says, **arguments)
