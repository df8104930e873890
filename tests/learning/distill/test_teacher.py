"""What a teacher may be, and that it says what it would say alone."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.errors import UserError
from effarch.infrastructure.data import Dataset
from effarch.learning import Distill
from effarch.learning.distill import teacher as module
from tests.learning.distill.nets import Net, blobs

TRAIN = blobs(8)


def said(technique, batch, train=TRAIN):
  constants = jax.device_put(technique.constants(train))
  return technique.logits({**batch, "constants": constants})


def evaluated(model, inputs):
  model = nnx.clone(model)
  model.eval()
  return model(inputs)


def double(inputs):
  return 2 * inputs[:, :3]


def test_a_teacher_is_a_function_a_model_or_what_load_makes(teacher, batch):
  alone = evaluated(teacher, batch["inputs"])
  np.testing.assert_array_equal(said(Distill(teacher), batch), alone)
  # It is evaluated, and the given one is left in training.
  assert not teacher.dropout.deterministic
  loaded = Distill("runs/big", load={"runs/big": teacher}.__getitem__)
  np.testing.assert_array_equal(said(loaded, batch), alone)
  assert loaded.name == "taught by runs/big"
  function = said(Distill(double), batch)
  np.testing.assert_array_equal(function, 2 * batch["inputs"][:, :3])


def test_several_teachers_probabilities_are_averaged(teacher, batch):
  net = Net(nnx.Rngs(5))
  found = jnp.exp(said(Distill([teacher, net, double]), batch))
  inputs = batch["inputs"]
  each = [
    evaluated(teacher, inputs),
    evaluated(net, inputs),
    2 * inputs[:, :3],
  ]
  expected = np.mean([jax.nn.softmax(logits) for logits in each], axis=0)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_cache_holds_what_the_teacher_says_of_the_data(
  teacher, batch, monkeypatch
):
  monkeypatch.setattr(module, "_BATCH_SIZE", 3)
  cached = Distill(teacher, cached=True)
  fresh = said(Distill(teacher), batch)
  places = jnp.asarray([6, 1, 1, 7])
  found = said(
    cached,
    {
      "inputs": jnp.full((4, 4), jnp.nan),  # It is not asked about these.
      "labels": batch["labels"][places],
      "index": places,
    },
  )
  np.testing.assert_allclose(found, fresh[places], rtol=1e-5)
  assert cached.name != Distill(teacher).name


def test_a_cache_of_tokens_is_cut_to_their_bucket():
  tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
  train = Dataset(tokens, tokens % 3, ("a", "b", "c"))
  technique = Distill(lambda x: jax.nn.one_hot(x % 3, 3), cached=True)
  batch = {
    "inputs": jnp.asarray(tokens[:, :4]),
    "labels": jnp.zeros((2, 4, 3)),
    "index": jnp.arange(2),
  }
  np.testing.assert_array_equal(
    said(technique, batch, train), np.eye(3)[tokens[:, :4] % 3]
  )


def test_no_gradient_reaches_a_teacher(teacher, batch):
  technique = Distill(teacher)
  constants = technique.constants(TRAIN)

  def total(inputs):
    given = {**batch, "inputs": inputs, "constants": constants}
    return technique.logits(given).sum()

  chex.assert_trees_all_equal(
    jax.grad(total)(batch["inputs"]), jnp.zeros((8, 4))
  )


def test_other_classes_are_told(batch):
  with pytest.raises(
    UserError, match=r"teacher: gives \(4,\) numbers .*\(3,\)"
  ):
    said(Distill(lambda x: x), batch)


@pytest.mark.parametrize(
  ("teacher", "message"),
  [
    ("runs/big", "'runs/big' is a folder, which load must read"),
    (3, "3 is no folder, model or function"),
    ((), "there is none"),
  ],
)
def test_what_cannot_teach_is_told(teacher, message):
  with pytest.raises(ValueError, match=f"teacher: {message}"):
    Distill(teacher)


def test_a_technique_is_equal_to_its_copy(teacher):
  technique = Distill((teacher, double))
  again = dataclasses.replace(technique)
  assert technique == again
  assert technique.name == again.name
