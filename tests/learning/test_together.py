"""All techniques of regularization and optimization at once, and killed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.architectures.models.resnet import BasicBlock
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import (
  Loop,
  RunFolder,
  best_model,
  evaluate,
  fit,
)
from effarch.learning import TECHNIQUES
from effarch.learning.views import AveragedViews
from effarch.testing import check_resumes

ALL = [
  *("flip_translate", "label_smoothing", "dropout", "spatial_dropout"),
  *("drop_block", "stochastic_depth", "r_drop", "self_paced"),
  *("hard_examples", "forgetting", "sam"),
  *("lookahead", "weight_ema", "swa", "test_time_augmentation"),
]
OTHERS = ["schedule_free", "asam", "progressive_resizing"]


class Net(nnx.Module):
  def __init__(self, rngs):
    self.stem = nnx.Conv(1, 4, (3, 3), rngs=rngs)
    self.block = BasicBlock(4, 4, rngs=rngs)
    self.classifier = nnx.Linear(4, 2, rngs=rngs)

  def __call__(self, x):
    return self.classifier(self.block(self.stem(x)).mean((1, 2)))


def spots(size, seed):
  """Bright or dark images."""
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, 2, size).astype(np.int32)
  inputs = generator.normal(size=(size, 8, 8, 1)) + labels[:, None, None, None]
  return Dataset(inputs.astype(np.float32), labels, ("dark", "bright"))


TRAIN, VALIDATION = spots(24, 0), spots(11, 1)
EXAMPLE = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)


def train(folder, techniques):
  return fit(
    Net(nnx.Rngs(0)),
    TRAIN,
    VALIDATION,
    loop=Loop(epochs=3, batch_size=8),
    optimizer=optax.sgd(0.1),
    folder=RunFolder(folder),
    techniques=techniques,
  )


def parts(model):
  """Kinds of a model's modules and shapes of its arrays, by path."""
  modules = {path: type(module) for path, module in nnx.iter_modules(model)}
  return modules, jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(model)))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("names", [ALL, OTHERS])
def test_resumes_bit_for_bit_and_ships_the_plain_model(tmp_path, names):
  techniques = [TECHNIQUES[name]() for name in names]
  result = check_resumes(lambda folder: train(folder, techniques), tmp_path)
  models = [
    best_model(Net(nnx.Rngs(9)), RunFolder(folder), EXAMPLE, techniques)
    for folder in (tmp_path / "whole", tmp_path / "killed")
  ]
  chex.assert_trees_all_equal(*map(nnx.state, models))
  model = models[0]
  if isinstance(model, AveragedViews):
    model = model.model
  assert parts(model) == parts(Net(nnx.Rngs(0)))
  for name, value in evaluate(model, VALIDATION).items():
    assert result[f"validation/{name}"] == pytest.approx(value, rel=1e-5)


def test_no_technique_is_left_out():
  # Augmentation and distillation have packages, and tests like this, of theirs.
  own = {
    name for name, kind in TECHNIQUES.items() if kind.__module__.count(".") == 2
  }
  # It needs a run to go on from.
  assert {*ALL, *OTHERS} - {"flip_translate"} == own - {"pretrained"}
