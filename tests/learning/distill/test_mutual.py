"""A model and a peer teach each other."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.architectures.models import MODELS
from effarch.errors import UserError
from effarch.infrastructure.training import classification_loss
from effarch.learning import MutualLearning
from effarch.learning.distill import losses
from tests.learning.distill.nets import Net

WIDE = functools.partial(Net, features=8, depth=1)


def prepared(net, example, **arguments):
  technique = MutualLearning(WIDE, **arguments)
  model = technique.model(net, example)
  model.eval()
  return technique, model, model.attachment_0.parts[0]


def test_both_losses_add_up(net, batch, example):
  technique, model, peer = prepared(net, example, weight=0.5, temperature=2.0)
  assert peer.out.in_features == 8
  found, metrics = technique.loss(classification_loss)(model, batch)
  ours, theirs = model(batch["inputs"]), peer(batch["inputs"])
  expected = sum(
    optax.softmax_cross_entropy(a, batch["labels"])
    + 0.5 * losses.soft_labels(a, b, 2.0)
    for a, b in ((ours, theirs), (theirs, ours))
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  right = ours.argmax(-1) == batch["labels"].argmax(-1)
  np.testing.assert_array_equal(metrics["accuracy"], right)


def test_each_has_the_gradient_of_its_own_loss(net, batch, example):
  technique, model, peer = prepared(net, example)
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)

  def total(params):
    own = nnx.merge(graphdef, params, rest, copy=True)
    return technique.loss(classification_loss)(own, batch)[0].sum()

  gradient = jax.jit(jax.grad(total))(params)
  labels = batch["labels"]
  ours, theirs = model(batch["inputs"]), peer(batch["inputs"])
  for logits, other, found in (
    (ours, theirs, gradient["out"]),
    (theirs, ours, gradient["attachment_0"]["parts"][0]["out"]),
  ):
    p, q = jax.nn.softmax(logits), jax.nn.softmax(other)
    expected = p * labels.sum(-1, keepdims=True) - labels + p - q
    np.testing.assert_allclose(
      found["bias"][...], expected.sum(0), rtol=1e-4, atol=1e-5
    )


def test_a_peer_can_be_a_config():
  example = jax.ShapeDtypeStruct((1, 8, 8, 1), "float32")
  student = MODELS["survey_cnn"](
    (8, 8, 1), 3, width_multiplier=0.05, rngs=nnx.Rngs(0)
  )
  technique = MutualLearning({"name": "survey_cnn", "width_multiplier": 0.1})
  hash(technique)
  peer = technique.model(student, example).attachment_0.parts[0]
  assert peer.classifier.out_features == 3
  assert peer.hidden.out_features == 51
  with pytest.raises(UserError, match=r"config.techniques.peer.name: 'survey'"):
    MutualLearning({"name": "survey"}).model(student, example)


def test_it_leaves_no_trace(net, example):
  before = nnx.graphdef(net)
  technique = MutualLearning(WIDE)
  assert nnx.graphdef(technique.finish(technique.model(net, example))) == before
  off = MutualLearning(WIDE, weight=0.0)
  assert off.finish(off.model(net, example)) is net
  assert nnx.graphdef(net) == before
  assert off.loss(classification_loss) is classification_loss


@pytest.mark.parametrize(
  "arguments", [{"peer": 3}, {"weight": -1.0}, {"temperature": 0.0}]
)
def test_refuses_the_impossible(arguments):
  with pytest.raises(ValueError, match=f"^{next(iter(arguments))}: "):
    MutualLearning(**{"peer": WIDE, **arguments})
