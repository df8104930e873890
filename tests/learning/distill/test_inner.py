"""Losses of inner tensors in the loop's terms, and the parts they train."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.compression import Quantize
from effarch.errors import UserError
from effarch.infrastructure.training import classification_loss
from effarch.learning import DistillFeatures
from effarch.learning.distill import losses
from effarch.learning.distill.inner import pooled, resized
from tests.learning.distill.nets import Net, blobs

TRAIN = blobs(8)
PAIRS = (("layers.0", "layers.2"), ("layers.1", "layers.3"))


def trained_on(technique, model, batch):
  batch = {**batch, "constants": technique.constants(TRAIN)}
  return technique.loss(classification_loss)(model, batch)


def tensors(model, batch):
  x, found = batch["inputs"], []
  for layer in model.layers:
    found.append(layer(x))
    x = nnx.relu(found[-1])
  return found


def normal(*shape):
  return jax.random.normal(jax.random.key(3), shape)


def test_the_loss_is_the_plain_one_and_the_mean_of_all_pairs(
  net, teacher, batch, example
):
  """Of two teachers, with a projection for each pair."""
  net.eval()
  plain, _ = classification_loss(net, batch)
  others = [teacher, Net(nnx.Rngs(7), features=9, depth=4)]
  technique = DistillFeatures(others, layers=PAIRS, weight=3.0)
  model = technique.model(net, example)
  assert model is net
  parts = model.attachment_0.parts
  assert [each.projection.out_features for each in parts] == [10, 10, 9, 9]
  found, metrics = trained_on(technique, model, batch)
  assert set(metrics) == {"accuracy"}
  ours = tensors(net, batch)
  expected = [
    np.mean(
      (
        ours[a] @ part.projection.kernel[...]
        + part.projection.bias[...]
        - tensors(other, batch)[b]
      )
      ** 2,
      axis=-1,
    )
    for part, (other, a, b) in zip(
      parts,
      [(t, *pair) for t in others for pair in ((0, 2), (1, 3))],
      strict=True,
    )
  ]
  np.testing.assert_allclose(found, plain + 3 * np.mean(expected, 0), rtol=1e-5)


def test_lists_of_layers_are_paired_as_their_single_layers_are(
  net, teacher, batch, example
):
  pairs = (("layers.0", "layers.1"), ("layers.1", "layers.3"))
  found = []
  for layers in (pairs, (("layers", "layers"),)):
    technique = DistillFeatures(teacher, layers=layers)
    model = technique.model(Net(nnx.Rngs(0)), example)
    found.append(trained_on(technique, model, batch)[0])
  np.testing.assert_array_equal(*found)


OBJECTIVES = {
  "attention_transfer": losses.attention_transfer,
  "relational": losses.relational,
  "similarity_preserving": losses.similarity_preserving,
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_sees_the_tensors_as_they_are(
  objective, net, teacher, batch, example
):
  net.eval()
  technique = DistillFeatures(teacher, None, PAIRS[1:], objective)
  model = technique.model(net, example)
  found, _ = trained_on(technique, model, batch)
  plain, _ = classification_loss(net, batch)
  distance = OBJECTIVES[objective](
    tensors(net, batch)[1], tensors(teacher, batch)[3]
  )
  np.testing.assert_allclose(found, plain + distance, rtol=1e-5)


def test_contrast_is_of_embeddings_that_are_trained(
  net, teacher, batch, example
):
  technique = DistillFeatures(teacher, None, PAIRS[:1], "contrastive")
  model = technique.model(net, example)
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)

  def total(params):
    own = nnx.merge(graphdef, params, rest, copy=True)
    return trained_on(technique, own, batch)[0].mean()

  gradient = jax.jit(jax.grad(total))(params)["attachment_0"]["parts"][0]
  for side in ("student", "teacher"):
    assert jnp.abs(gradient[side]["kernel"][...]).max() > 0
  part = model.attachment_0.parts[0]
  images = normal(2, 3, 3, 6), normal(2, 10)
  embedded = part(*images)
  chex.assert_shape(embedded, (2, 128))
  np.testing.assert_allclose(
    embedded[0], part.student(images[0].mean((1, 2))), rtol=1e-5
  )


def test_a_finished_model_is_the_models_own_kind(net, teacher, batch, example):
  net.eval()
  before, logits = nnx.graphdef(net), net(batch["inputs"])
  technique = DistillFeatures(teacher, layers=PAIRS)
  finished = technique.finish(technique.model(net, example))
  assert type(finished) is Net
  assert nnx.graphdef(finished) == before
  np.testing.assert_array_equal(finished(batch["inputs"]), logits)


def test_without_weight_it_is_absent(net, example):
  technique = DistillFeatures("nowhere", print, PAIRS, weight=0.0)
  assert technique.loss(classification_loss) is classification_loss
  assert technique.constants(TRAIN) == {}
  assert technique.model(net, example) is net
  assert not hasattr(net, "attachment_0")
  assert technique.finish(net) is net


def test_places_are_pooled_and_interpolated():
  images = normal(2, 4, 6, 3)
  np.testing.assert_allclose(
    pooled(images), images.reshape(2, 24, 3).mean(1), rtol=1e-5, atol=1e-6
  )
  assert resized(images, (2, 4, 6, 8)) is images
  # Of what is linear, places between are the values between.
  line = jnp.arange(8.0)[None, :, None]
  half = resized(jnp.concatenate([line, line]), (2, 4, 9))
  chex.assert_shape(half, (2, 4, 1))
  np.testing.assert_allclose(half[0, 1:3, 0], [2.5, 4.5], atol=1e-5)


def test_places_of_other_axes_are_told():
  with pytest.raises(UserError, match=r"\(4, 6, 3\) and \(24, 3\) for each"):
    resized(normal(2, 4, 6, 3), (2, 24, 3))


def test_what_cannot_be_compared_is_told(net, teacher, example):
  for technique, message in (
    (DistillFeatures(len, layers=PAIRS), "a function has no inner tensors"),
    (DistillFeatures(teacher, layers=(("layers.0", "norms"),)), "'norms'"),
    (DistillFeatures(teacher, layers=(("layers.9", "norm"),)), "'layers.9'"),
  ):
    with pytest.raises(UserError, match=message):
      technique.model(net, example)
  # What rounds a model computes it by a program of its own.
  technique = DistillFeatures(teacher, layers=PAIRS)
  with pytest.raises(UserError, match=r"'model.layers.0' is not called"):
    DistillFeatures(teacher, layers=(("model.layers.0", "norm"),)).model(
      Quantize().model(net, example), example
    )
  assert technique.layers == PAIRS


@pytest.mark.parametrize(
  "arguments",
  [
    {"layers": ()},
    {"layers": ("ab", "cd")},
    {"layers": PAIRS, "weight": -1.0},
    {"layers": PAIRS, "objective": "hint"},
  ],
)
def test_refuses_the_impossible(arguments):
  name = list(arguments)[-1]
  with pytest.raises(ValueError, match=f"^{name}: "):
    DistillFeatures(len, **arguments)
