"""Which examples count, against loops over them one by one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.infrastructure.training import classification_loss
from effarch.learning.r_drop import RDrop, divergence
from effarch.learning.select import (
  Forgetting,
  HardExamples,
  SelfPaced,
  margins,
  smallest,
)

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(10, 3)).astype(np.float32)
CLASSES = GENERATOR.integers(0, 3, 10)


class Given(nnx.Module):
  """Gives its inputs, and counts how often; in training, with noise."""

  def __init__(self, noise=0.0):
    self.calls = nnx.BatchStat(jnp.zeros(()))
    self.noise = noise

  def __call__(self, x):
    self.calls[...] += 1
    return x + self.noise * self.calls[...] * jnp.arange(3)


def batch(progress=0.0, logits=LOGITS, classes=CLASSES, index=None):
  return {
    "inputs": jnp.asarray(logits),
    "labels": jax.nn.one_hot(classes, 3),
    "index": jnp.arange(len(logits)) if index is None else jnp.asarray(index),
    "progress": jnp.float32(progress),
  }


PLAIN = np.asarray(classification_loss(Given(), batch())[0])


def softmax(logits):
  p = np.exp(logits)
  return p / p.sum(-1, keepdims=True)


def counted(weights):
  return set(np.flatnonzero(np.asarray(weights)))


@pytest.mark.parametrize(
  ("progress", "count"), [(0.0, 4), (0.1, 5), (0.25, 7), (0.5, 10), (0.9, 10)]
)
def test_self_paced_begins_with_the_easiest(progress, count):
  model = Given()
  technique = SelfPaced(0.4, until=0.5)
  losses, metrics = jax.jit(
    lambda batch: technique.loss(classification_loss)(Given(), batch)
  )(batch(progress))
  easiest = np.argsort(PLAIN)[:count]
  expected = np.zeros(10)
  expected[easiest] = PLAIN[easiest] * 10 / count
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert losses.mean() == pytest.approx(PLAIN[easiest].mean(), rel=1e-5)
  technique.loss(classification_loss)(model, batch())
  assert model.calls[...] == 1
  chex.assert_trees_all_equal(
    metrics["accuracy"], classification_loss(Given(), batch())[1]["accuracy"]
  )


@pytest.mark.parametrize("by", ["loss", "margin"])
def test_hard_examples_count_alone(by):
  model = Given()
  losses, _ = HardExamples(0.3, by).loss(classification_loss)(model, batch())
  assert model.calls[...] == 1
  hardness = []
  for logits, right in zip(LOGITS, CLASSES, strict=True):
    p = softmax(logits)
    margin = p[right] - max(p[k] for k in range(3) if k != right)
    hardness.append(-margin if by == "margin" else -np.log(p[right]))
  hardest = np.argsort(hardness)[-3:]
  assert counted(losses) == set(hardest)
  np.testing.assert_allclose(
    losses[hardest], PLAIN[hardest] * 10 / 3, rtol=1e-5
  )


def test_margin_and_loss_order_differently():
  logits = jnp.log(jnp.array([[0.4, 0.3, 0.3], [0.45, 0.55, 1e-9]]))
  labels = jax.nn.one_hot(jnp.zeros(2, int), 3)
  losses = -jax.nn.log_softmax(logits)[:, 0]
  assert losses[0] > losses[1]
  np.testing.assert_allclose(margins(logits, labels), [0.1, -0.1], atol=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_weights_have_the_mean_one(share):
  weights = smallest(jnp.zeros(8), share)  # Of equals some are taken.
  assert weights.mean() == 1
  assert len(counted(weights)) == max(1, 8 * share)


def test_gradients_are_of_those_that_count():
  def mean(logits, technique):
    given = {**batch(), "inputs": logits}
    return technique.loss(classification_loss)(Given(), given)[0].mean()

  gradient = jax.grad(mean)(jnp.asarray(LOGITS), HardExamples(0.5))
  hardest = np.argsort(PLAIN)[5:]
  expected = np.zeros((10, 3))
  expected[hardest] = (softmax(LOGITS) - np.eye(3)[CLASSES])[hardest] / 5
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_forgetting_remembers_each_example():
  """Random answers in random batches, against a record kept by hand."""
  technique = Forgetting(start=0.5, weight=0.25, slots=10)
  model = technique.model(Given(), jax.ShapeDtypeStruct((1, 3), jnp.float32))
  graphdef, state = nnx.split(model)

  @jax.jit
  def step(state, batch):
    model = nnx.merge(graphdef, state, copy=True)
    found = technique.loss(classification_loss)(model, batch)
    return found, nnx.state(model)

  right_before, learned = [False] * 10, [False] * 10
  times = np.zeros(10)
  generator = np.random.default_rng(1)
  seen = set()
  for turn in range(20):
    index = generator.permutation(10)[:6]
    logits = generator.normal(size=(6, 3)).astype(np.float32)
    logits[:, 0] += 1
    logits[index == 9, 0] = -9  # Never learned.
    given = batch(turn / 20, logits, np.zeros(6, int), index)
    (losses, metrics), state = step(state, given)
    weights = np.ones(6)
    for place, example in enumerate(index):
      right = logits[place].argmax() == 0
      times[example] += right_before[example] and not right
      right_before[example] = right
      learned[example] = learned[example] or right
      kept = learned[example] and not times[example]
      if kept and turn >= 10:
        weights[place] = 0.25
    seen.update(weights)
    plain = np.asarray(classification_loss(Given(), given)[0])
    expected = plain * weights / weights.mean()
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_array_equal(metrics["forgotten"], times[index])
  assert seen == {0.25, 1.0}
  assert times.max() > 1

  model = technique.finish(model)
  assert str(nnx.graphdef(model)) == str(nnx.graphdef(Given()))


def test_if_all_are_unforgettable_none_counts():
  technique = Forgetting(start=0.0, slots=10)
  model = technique.model(Given(), jax.ShapeDtypeStruct((1, 3), jnp.float32))
  right = batch(logits=10 * np.eye(3, dtype=np.float32), classes=np.arange(3))
  losses, _ = technique.loss(classification_loss)(model, right)
  chex.assert_trees_all_equal(losses, jnp.zeros(3))


def test_r_drop_adds_half_of_both_divergences():
  losses, _ = RDrop(0.7).loss(classification_loss)(Given(0.5), batch())
  for loss, logits, right in zip(losses, LOGITS, CLASSES, strict=True):
    # The model's first two answers.
    p, q = (softmax(logits + 0.5 * call * np.arange(3)) for call in (1, 2))
    apart = (p * np.log(p / q)).sum() / 2 + (q * np.log(q / p)).sum() / 2
    likely = -(np.log(p[right]) + np.log(q[right])) / 2
    assert loss == pytest.approx(likely + 0.7 * apart / 2, rel=1e-4)
  chex.assert_trees_all_equal(divergence(jnp.ones(3), jnp.ones(3)), 0.0)


@pytest.mark.parametrize(
  "technique",
  [SelfPaced(1.0), HardExamples(1.0), Forgetting(weight=1.0), RDrop(0.0)],
)
def test_off_is_absent(technique):
  assert technique.loss(classification_loss) is classification_loss
  model = technique.model(Given(), jax.ShapeDtypeStruct((1, 3), jnp.float32))
  assert str(nnx.graphdef(model)) == str(nnx.graphdef(Given()))


@pytest.mark.parametrize(
  ("technique", "arguments"),
  [
    (SelfPaced, {"first": 0.0}),
    (SelfPaced, {"until": 2.0}),
    (HardExamples, {"share": 0.0}),
    (HardExamples, {"by": "luck"}),
    (Forgetting, {"start": 1.0}),
    (Forgetting, {"weight": 2.0}),
    (Forgetting, {"slots": 0}),
    (RDrop, {"weight": -1.0}),
  ],
)
def test_refuses_the_impossible(technique, arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    technique(**arguments)
