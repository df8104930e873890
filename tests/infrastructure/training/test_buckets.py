"""Training in batches by length: what it sees, and that it resumes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import Loop, RunFolder, fit

FULL = 12


class Count(nnx.Module):
  """Classifies by the tokens' mean embedding, and notes how many it gets."""

  def __init__(self, rngs, seen):
    self.embedding = nnx.Embed(5, 4, rngs=rngs)
    self.out = nnx.Linear(4, 2, rngs=rngs)
    self.seen = nnx.static(seen)

  def __call__(self, x):
    if self.seen is not None:
      self.seen.add(x.shape)
    real = (x != 0)[..., None]
    return self.out((self.embedding(x) * real).sum(1) / real.sum(1))


class Seen(set):
  """A set that a graph may hold."""

  __hash__ = object.__hash__
  __eq__ = object.__eq__


def dataset(count, seed):
  rng = np.random.default_rng(seed)
  sizes = rng.integers(1, FULL + 1, count)
  inputs = rng.integers(1, 5, (count, FULL)).astype(np.int16)
  inputs[np.arange(FULL) >= sizes[:, None]] = 0
  return Dataset(inputs, rng.integers(0, 2, count).astype(np.int32), ("a", "b"))


TRAIN, VALIDATION = dataset(64, 0), dataset(23, 1)


def train(folder, seen=None, epochs=3, buckets=(4, 8), optimizer=None):
  loop = Loop(epochs, 8, steps_per_dispatch=2, buckets=buckets)
  return fit(
    *(Count(nnx.Rngs(0), seen), TRAIN, VALIDATION),
    loop=loop,
    optimizer=optimizer or optax.adam(1e-2),
    folder=RunFolder(folder),
  )


def test_a_training_sees_its_buckets_alone(tmp_path):
  seen = Seen()
  found = train(tmp_path / "buckets", seen, epochs=1)
  assert {length for _, length in seen} == {4, 8, FULL}
  # The same examples are judged, cut or not, by a model that sees no padding.
  whole = train(
    tmp_path / "whole", epochs=1, optimizer=optax.sgd(0.0), buckets=()
  )
  cut = train(tmp_path / "cut", epochs=1, optimizer=optax.sgd(0.0))
  assert cut["validation/loss"] == pytest.approx(
    whole["validation/loss"], rel=1e-5
  )
  assert found["validation/loss"] != whole["validation/loss"]


def test_a_stopped_training_goes_on_bit_for_bit(tmp_path):
  train(tmp_path / "whole")
  train(tmp_path / "parts", epochs=1)
  train(tmp_path / "parts")
  whole, parts = (
    (tmp_path / name / "metrics.jsonl").read_bytes()
    for name in ("whole", "parts")
  )
  assert whole == parts
  assert len(whole.splitlines()) == 3


@pytest.mark.parametrize("step", [1, 4, 6])
def test_the_step_that_failed_is_told(tmp_path, step):
  """Dispatches of buckets have one step or two."""

  def update(gradients, count, params=None):
    bad = jnp.where(count == step - 1, jnp.nan, 0.0)
    broken = jax.tree.map(lambda x: x * 0 + bad, gradients)
    return broken, count + 1

  poison = optax.GradientTransformation(
    lambda params: jnp.zeros((), jnp.int32), update
  )
  with pytest.raises(FloatingPointError, match=f"nan at step {step + 1};"):
    train(tmp_path, epochs=1, optimizer=poison)
