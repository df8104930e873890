"""Each loss beside a loop in NumPy, its gradient, and what it can't see."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from effarch.learning.distill import losses

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def softmax(x):
  x = np.asarray(x, np.float64)
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


LOGITS = types.SimpleNamespace(student=normal(5, 4), teacher=3 * normal(5, 4))
# The last asks nothing.
LABELS = jnp.eye(5, 4)[jnp.asarray([0, 1, 3, 2, 4])]
# Tensors of five examples, of unlike channels.
STUDENT, TEACHER = normal(5, 2, 3, 4), normal(5, 2, 3, 6)


def divergence(p, q):
  return sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True))


def soft_labels(student, teacher):
  return [
    2.5**2 * divergence(softmax(t / 2.5), softmax(s / 2.5))
    for s, t in zip(student, teacher, strict=True)
  ]


def logit_matching(student, teacher):
  return [sum((s - t) ** 2) / 2 for s, t in zip(student, teacher, strict=True)]


def decoupled(student, teacher):
  found = []
  for s, t, label in zip(student, teacher, LABELS, strict=True):
    target = np.argmax(label if label.any() else t)
    p_s, p_t = softmax(s / 2.5), softmax(t / 2.5)
    pair_s, pair_t = ([p[target], 1 - p[target]] for p in (p_s, p_t))
    rest_s, rest_t = (softmax(np.delete(x / 2.5, target)) for x in (s, t))
    both = divergence(pair_t, pair_s) + 3 * divergence(rest_t, rest_s)
    found.append(2.5**2 * both)
  return found


LOGIT_LOSSES = {
  soft_labels: lambda s, t: losses.soft_labels(s, t, 2.5),
  logit_matching: losses.logit_matching,
  decoupled: lambda s, t: losses.decoupled(s, t, LABELS, 2.5, 3.0),
}


@pytest.mark.parametrize("naive", LOGIT_LOSSES, ids=lambda f: f.__name__)
def test_a_loss_of_logits_equals_its_formula(naive):
  student, teacher = LOGITS.student, LOGITS.teacher
  loss = LOGIT_LOSSES[naive]
  expected = naive(student, teacher)
  np.testing.assert_allclose(
    loss(student, teacher), expected, rtol=2e-5, atol=5e-6
  )
  same = loss(teacher, teacher)
  np.testing.assert_allclose(same, np.zeros(5), atol=1e-5)


def test_gradients_of_soft_labels_and_logits_equal_their_closed_forms():
  student, teacher = LOGITS.student, LOGITS.teacher

  def gradient(loss):
    return jax.grad(lambda s: loss(s, teacher).sum())(student)

  for temperature in (0.5, 1.0, 4.0):
    found = gradient(lambda s, t, at=temperature: losses.soft_labels(s, t, at))
    gap = softmax(student / temperature) - softmax(teacher / temperature)
    np.testing.assert_allclose(found, temperature * gap, atol=2e-6)
  found = gradient(losses.logit_matching)
  np.testing.assert_allclose(found, student - teacher, rtol=1e-6)


def test_hot_soft_labels_match_centred_logits():
  """The limit of high temperatures, divided by the classes (1503.02531)."""
  student, teacher = LOGITS.student, LOGITS.teacher
  gap = (student - student.mean(-1, keepdims=True)) - (
    teacher - teacher.mean(-1, keepdims=True)
  )
  found = jax.grad(lambda s: losses.soft_labels(s, teacher, 1e3).sum())(student)
  np.testing.assert_allclose(found, gap / 4, atol=1e-2)


def test_decoupled_parts_make_up_soft_labels():
  """With the teacher's probability of the others as the factor of NCKD."""
  s, t = LOGITS.student[:4], LOGITS.teacher[:4]
  labels = LABELS[:4]
  others = 1 - (softmax(t / 2) * labels).sum(-1)
  target = losses.decoupled(s, t, labels, 2.0, 0.0)
  among = losses.decoupled(s, t, labels, 2.0, 1.0) - target
  whole = losses.soft_labels(s, t, 2.0)
  np.testing.assert_allclose(target + others * among, whole, rtol=1e-4)


def test_losses_of_sure_logits_are_finite():
  sure = jnp.asarray([[1e4, 0.0, 0.0], [0.0, -1e4, 0.0]])
  labels = jnp.eye(3)[:2]
  for loss in (
    lambda s: losses.soft_labels(s, -sure, 1.0),
    lambda s: losses.decoupled(s, sure[::-1], labels, 1.0, 8.0),
  ):
    value, gradient = jax.value_and_grad(lambda s, f=loss: f(s).sum())(sure)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def flat(x):
  return np.asarray(x, np.float64).reshape(len(x), -1)


def hints(student, teacher):
  return [np.mean((s - t) ** 2) for s, t in zip(student, teacher, strict=True)]


def attention_transfer(student, teacher):
  def attention(x):
    q = np.array([[np.sum(place**2) for place in row] for row in x])
    return q / np.linalg.norm(q)

  return [
    np.sum((attention(s) - attention(t)) ** 2)
    for s, t in zip(student, teacher, strict=True)
  ]


def huber(x):
  x = abs(x)
  return x * x / 2 if x < 1 else x - 0.5


def relational(student, teacher):
  def mean_distance(x):
    pairs = itertools.combinations(x, 2)
    return np.mean([np.linalg.norm(a - b) for a, b in pairs])

  def cosine(corner, a, b):
    a, b = a - corner, b - corner
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / norms if norms else 0.0

  s, t = flat(student), flat(teacher)
  mean_s, mean_t, size = mean_distance(s), mean_distance(t), len(s)
  found = []
  for i in range(size):
    distances = sum(
      huber(
        np.linalg.norm(s[i] - s[j]) / mean_s
        - np.linalg.norm(t[i] - t[j]) / mean_t
      )
      for j in range(size)
    )
    angles = sum(
      huber(cosine(s[i], s[j], s[k]) - cosine(t[i], t[j], t[k]))
      for j in range(size)
      for k in range(size)
    )
    found.append(distances / size + 2 * angles / size**2)
  return found


def similarity_preserving(student, teacher):
  def rows(x):
    g = flat(x) @ flat(x).T
    return g / np.linalg.norm(g, axis=1, keepdims=True)

  gap = rows(student) - rows(teacher)
  # The paper's loss of the batch is the mean of these.
  assert np.isclose((gap**2).sum() / len(gap) ** 2, (gap**2).mean(1).mean())
  return (gap**2).sum(1) / len(gap)


def contrastive(student, teacher):
  s, t = (x / np.linalg.norm(x, axis=1)[:, None] for x in (student, teacher))
  scores = np.exp(s @ t.T / 0.2)
  return [
    -np.log(scores[i, i] / scores[i].sum()) / 2
    - np.log(scores[i, i] / scores[:, i].sum()) / 2
    for i in range(len(s))
  ]


FEATURE_LOSSES = {
  hints: (losses.hints, STUDENT, TEACHER[..., :4]),
  attention_transfer: (losses.attention_transfer, STUDENT, TEACHER),
  relational: (losses.relational, STUDENT, TEACHER),
  similarity_preserving: (losses.similarity_preserving, STUDENT, TEACHER),
  contrastive: (
    lambda s, t: losses.contrastive(s, t, 0.2),
    STUDENT.reshape(5, -1),
    TEACHER.reshape(5, -1)[:, :24],
  ),
}


@pytest.mark.parametrize("naive", FEATURE_LOSSES, ids=lambda f: f.__name__)
def test_a_loss_of_tensors_equals_its_formula(naive):
  loss, student, teacher = FEATURE_LOSSES[naive]
  found = loss(student, teacher)
  assert found.shape == (5,)
  np.testing.assert_allclose(found, naive(student, teacher), rtol=2e-5)
  # Of the mean, as the loop takes it; by finite differences.
  check_grads(
    jax.jit(lambda s: 10 * loss(s, teacher).mean()),
    (student,),
    order=1,
    modes=("rev",),
    atol=2e-2,
    rtol=2e-2,
    eps=1e-2,
  )


def rotation(size):
  return np.linalg.qr(RNG.normal(size=(size, size)))[0].astype(np.float32)


def moved(x):
  y = 3 * x.reshape(5, -1) @ rotation(24) + normal(24)
  return y.reshape(x.shape)


INVARIANCES = {
  "relational": (losses.relational, moved),
  "similarity_preserving": (
    losses.similarity_preserving,
    lambda x: (0.5 * x.reshape(5, -1) @ rotation(24)).reshape(x.shape),
  ),
  "attention_transfer": (
    losses.attention_transfer,
    lambda x: -2 * x[..., ::-1],
  ),
}


@pytest.mark.parametrize("name", INVARIANCES)
def test_what_a_loss_does_not_see(name):
  loss, change = INVARIANCES[name]
  changed = change(STUDENT)
  np.testing.assert_allclose(loss(changed, STUDENT), np.zeros(5), atol=1e-5)
  np.testing.assert_allclose(
    loss(changed, TEACHER), loss(STUDENT, TEACHER), rtol=1e-3
  )
  # But it does see which example is which.
  assert loss(STUDENT[::-1], STUDENT).max() > 0.01


def test_equal_examples_and_zeros_have_finite_gradients():
  same = jnp.ones((3, 2, 2))
  for loss, teacher in (
    (losses.relational, TEACHER[:3]),
    (losses.similarity_preserving, TEACHER[:3]),
    (losses.attention_transfer, TEACHER[:3, :, 0]),
  ):
    gradient = jax.jit(jax.grad(lambda s, f=loss, t=teacher: f(s, t).sum()))
    for student in (same, 0 * same):
      assert np.isfinite(gradient(student)).all()
