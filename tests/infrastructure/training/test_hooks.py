"""Hooks: what techniques know, change, and give to be judged and kept."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import (
  Loop,
  RunFolder,
  Technique,
  best_model,
  classification_loss,
  evaluate,
  first_state,
  fit,
  make_steps,
)
from effarch.infrastructure.training import loop as loop_module
from effarch.infrastructure.training.mesh import data_mesh
from effarch.testing import check_resumes


class Net(nnx.Module):
  """With BatchNorm's statistics and dropout's key."""

  def __init__(self, rngs):
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.dropout = nnx.Dropout(0.2, rngs=rngs)
    self.out = nnx.Linear(8, 2, rngs=rngs)

  def __call__(self, x):
    return self.out(self.dropout(self.norm(x)))


def blobs(size, seed):
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, 2, size).astype(np.int32)
  inputs = generator.normal(size=(size, 8)) + labels[:, None]
  return Dataset(inputs.astype(np.float32), labels, ("left", "right"))


TRAIN, VALIDATION = blobs(64, seed=0), blobs(21, seed=1)
LOOP = Loop(epochs=4, batch_size=16)
EXAMPLE = jax.ShapeDtypeStruct((1, 8), jnp.float32)


def train(folder, techniques=()):
  return fit(
    Net(nnx.Rngs(0)),
    TRAIN,
    VALIDATION,
    loop=LOOP,
    optimizer=optax.adam(0.05),
    folder=RunFolder(folder),
    techniques=techniques,
  )


def trained(folder, techniques=()):
  return best_model(Net(nnx.Rngs(9)), RunFolder(folder), EXAMPLE, techniques)


def floats(state):
  return [
    np.asarray(leaf)
    for leaf in jax.tree.leaves(state)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]


@dataclasses.dataclass(frozen=True)
class Mean(Technique):
  """The mean of the weights after each step."""

  def average(self, before, now, state, total_steps):
    def mean(old, new):
      if not jnp.issubdtype(new.dtype, jnp.floating):
        return new
      return old + (new - old) / state.step

    return jax.tree.map(mean, before, now)


@pytest.fixture
def states(monkeypatch):
  """Every state that the test's trainings make."""
  seen = []

  def watched(*args, **options):
    take = make_steps(*args, **options)

    def call(*args):
      state, metrics = take(*args)
      seen.append(jax.device_get(state))
      return state, metrics

    return call

  monkeypatch.setattr(loop_module, "make_steps", watched)
  return seen


def test_averages_are_judged_and_shipped_and_training_does_not_see_them(
  tmp_path, states
):
  result = train(tmp_path / "mean", [Mean()])
  own, states[:] = [*states], []
  train(tmp_path / "plain")
  for state, plain in zip(own, states, strict=True):
    chex.assert_trees_all_equal(state._replace(averages=()), plain)

  best = trained(tmp_path / "mean", [Mean()])
  used = [floats((s.params, s.rest)) for s in own[: result["step"]]]
  mean = [np.mean(each, 0) for each in zip(*used, strict=True)]
  found = nnx.state(best, nnx.Param), nnx.state(best, nnx.Not(nnx.Param))
  chex.assert_trees_all_close(floats(found), mean, rtol=1e-4, atol=1e-6)
  assert not np.allclose(floats(found)[0], used[-1][0])
  for name, value in evaluate(best, VALIDATION).items():
    assert result[f"validation/{name}"] == pytest.approx(value, rel=1e-5)
  # Who starts from this run does not need to know how it was trained.
  chex.assert_trees_all_equal(
    nnx.state(trained(tmp_path / "mean"), nnx.Param), found[0]
  )


@pytest.mark.parametrize("count", [1, 2])
def test_resumes_bit_for_bit_from_the_weights_in_training(tmp_path, count):
  techniques = [Mean()] * count
  check_resumes(lambda folder: train(folder, techniques), tmp_path)
  chex.assert_trees_all_equal(
    *(nnx.state(trained(tmp_path / name)) for name in ("whole", "killed"))
  )


def test_checkpoints_hold_more_only_where_there_are_averages(tmp_path):
  for name, techniques in (("plain", []), ("mean", [Mean()])):
    train(tmp_path / name, techniques)
    (*_, step) = (tmp_path / name / "checkpoints").glob("[0-9]*")
    assert (step / "averaged").exists() == bool(techniques)


@dataclasses.dataclass(frozen=True)
class Times(Technique):
  """Multiplies gradients, and weights that are judged."""

  factor: float

  def gradient(self, gradient_fn):
    def scaled(params, batch):
      gradients, rest = gradient_fn(params, batch)
      return jax.tree.map(lambda g: g * self.factor, gradients), rest

    return scaled

  def average(self, before, now, state, total_steps):
    return jax.tree.map(lambda w: w * self.factor, now[0]), now[1]


@dataclasses.dataclass(frozen=True)
class Plus(Technique):
  """Adds to gradients, and to weights that are judged."""

  term: float

  def gradient(self, gradient_fn):
    def more(params, batch):
      gradients, rest = gradient_fn(params, batch)
      return jax.tree.map(lambda g: g + self.term, gradients), rest

    return more

  def average(self, before, now, state, total_steps):
    return jax.tree.map(lambda w: w + self.term, now[0]), now[1]


def stepped(techniques):
  """A state after one step of gradient descent, at a rate of one."""
  graphdef, params, rest = nnx.split(
    nnx.Linear(8, 2, rngs=nnx.Rngs(0)), nnx.Param, ...
  )
  tx = optax.sgd(1.0)
  steps = make_steps(
    *(graphdef, tx, techniques, classification_loss, 2, data_mesh()),
    total_steps=1,
  )
  before = jax.tree.map(np.array, params)
  after, _ = steps(
    first_state(params, rest, tx, techniques),
    (TRAIN.inputs, TRAIN.labels, {}),
    jnp.arange(16)[None],
    jax.random.key(0),
  )
  return before, after


def test_hooks_compose_in_the_order_listed():
  before, plain = stepped([])
  _, both = stepped([Technique(), Times(2.0), Plus(1.0)])
  chex.assert_trees_all_close(
    both.params,
    jax.tree.map(lambda b, p: b - (2 * (b - p) + 1), before, plain.params),
    rtol=1e-4,
    atol=1e-5,
  )
  # One without the hook keeps nothing.
  doubled, last = (weights[0] for weights in both.averages)
  twice = jax.tree.map(lambda w: 2 * w, both.params)
  chex.assert_trees_all_equal(doubled, twice)
  chex.assert_trees_all_equal(last, jax.tree.map(lambda w: w + 1, twice))


class Doubled(nnx.Module):
  def __init__(self, inner):
    self.inner = inner
    self.scale = nnx.Param(jnp.full(2, 2.0))

  def __call__(self, x):
    return self.inner(x) * self.scale


class Doubling(Technique):
  """Surgery: the model that is trained has one parameter more."""

  def model(self, model, _):
    return Doubled(model)


def test_what_surgery_made_is_trained_and_restored(tmp_path):
  train(tmp_path, techniques=[Doubling()])
  model = trained(tmp_path, [Doubling()])
  assert isinstance(model, Doubled)
  assert not np.allclose(model.scale[...], 2.0)
