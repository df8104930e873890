"""Classifiers of inner tensors learn from labels and the model's logits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.architectures.models import MODELS
from effarch.infrastructure.training import classification_loss
from effarch.learning import SelfDistill
from effarch.learning.distill import losses


def test_the_loss_adds_each_classifiers(net, batch, example):
  net.eval()
  plain, _ = classification_loss(net, batch)
  technique = SelfDistill(("layers.0", "layers.1"), 0.25, 2.0, weight=0.5)
  model = technique.model(net, example)
  found, _ = technique.loss(classification_loss)(model, batch)
  x, expected = batch["inputs"], plain
  for layer, classify in zip(net.layers, model.attachment_0.parts, strict=True):
    x = layer(x)
    logits, x = classify(x), nnx.relu(x)
    own = optax.softmax_cross_entropy(logits, batch["labels"])
    soft = losses.soft_labels(logits, net(batch["inputs"]), 2.0)
    expected += 0.5 * (0.75 * own + 0.25 * soft)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_model_is_no_pupil_of_its_classifiers(net, batch, example):
  """What is after the inner tensor has the plain loss's gradient."""
  net.eval()
  technique = SelfDistill(("layers.0",))

  def gradient(loss_fn):
    graphdef, params, rest = nnx.split(net, nnx.Param, ...)

    def total(params):
      own = nnx.merge(graphdef, params, rest, copy=True)
      return loss_fn(own, batch)[0].mean()

    return jax.jit(jax.grad(total))(params)

  before = gradient(classification_loss)
  technique.model(net, example)
  after = gradient(technique.loss(classification_loss))
  for layer in ("out", "norm"):
    for a, b in zip(
      jax.tree.leaves(before[layer]), jax.tree.leaves(after[layer]), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  first = [g["layers"][0]["kernel"][...] for g in (before, after)]
  assert jnp.abs(first[0] - first[1]).max() > 1e-3


def test_tokens_are_classified_one_by_one():
  model = MODELS["decoder"](
    (5,), 7, vocab_size=7, features=8, depth=1, num_heads=2, rngs=nnx.Rngs(0)
  )
  tokens = jnp.asarray([[1, 2, 3, 4, 5], [3, 2, 0, 0, 0]])
  technique = SelfDistill(("blocks.0",), alpha=1.0)
  technique.model(model, jax.ShapeDtypeStruct((1, 5), jnp.int32))
  batch = {"inputs": tokens, "labels": jax.nn.one_hot(tokens, 7)}
  found, _ = technique.loss(classification_loss)(model, batch)
  changed = {**batch, "labels": batch["labels"].at[:, 2:].set(0)}
  asked, _ = technique.loss(classification_loss)(model, changed)
  assert found.shape == asked.shape == (2,)
  assert np.isfinite(found).all()
  assert jnp.abs(found - asked).min() > 1e-4


def test_it_leaves_no_trace(net, batch, example):
  net.eval()
  before = nnx.graphdef(net)
  technique = SelfDistill(("norm",))
  assert nnx.graphdef(technique.finish(technique.model(net, example))) == before
  off = SelfDistill(("norm",), weight=0.0)
  assert off.finish(off.model(net, example)) is net
  assert nnx.graphdef(net) == before
  assert off.loss(classification_loss) is classification_loss


@pytest.mark.parametrize(
  "arguments",
  [{"layers": "norm"}, {"layers": ()}, {"alpha": 2.0}, {"temperature": -1.0}],
)
def test_refuses_the_impossible(arguments):
  with pytest.raises(ValueError, match=f"^{next(iter(arguments))}: "):
    SelfDistill(**{"layers": ("norm",), **arguments})
