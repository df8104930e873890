"""Quantization-aware training by config: resumed, composed, shipped."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.architectures.convolution import ConvNorm
from effarch.compression import Quantize
from effarch.compression.quantize import Quantized, Scheme
from effarch.errors import UserError
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.export import ship
from effarch.infrastructure.training import Loop, RunFolder, best_model, fit
from effarch.learning import LabelSmoothing, Pretrained

SHAPE = (8, 8, 1)
EXAMPLE = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)


class Net(nnx.Module):
  def __init__(self, features=8):
    rngs = nnx.Rngs(0)
    self.conv = ConvNorm(1, features, strides=2, rngs=rngs)
    self.classifier = nnx.Linear(16 * features, 4, rngs=rngs)

  def __call__(self, x):
    return self.classifier(self.conv(x).reshape(len(x), -1))


def model():
  return Net()


def images(size, seed):
  """The brightest corner is the class."""
  draw = np.random.default_rng(seed)
  inputs = draw.integers(0, 100, (size, *SHAPE)).astype(np.uint8)
  labels = draw.integers(0, 4, size).astype(np.int32)
  for image, label in zip(inputs, labels, strict=True):
    row, column = divmod(int(label), 2)
    image[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 100
  return Dataset(inputs, labels, tuple("abcd"))


def train(folder, epochs, techniques, seed=0):
  return fit(
    model(),
    images(64, 0),
    images(32, 1),
    loop=Loop(epochs=epochs, batch_size=16),
    optimizer=optax.adam(1e-2),
    folder=RunFolder(folder),
    seed=seed,
    techniques=techniques,
  )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run in float."""
  folder = tmp_path_factory.mktemp("float")
  train(folder, 8, [])
  return folder


def test_a_trained_model_is_taken_quantized_and_shipped(trained, tmp_path):
  techniques = [
    Pretrained(str(trained)),
    LabelSmoothing(),
    Quantize(weights="int4", learned=True),
  ]
  result = train(tmp_path, 2, techniques)
  assert result["validation/accuracy"] > 0.9
  folder = RunFolder(tmp_path)
  found = best_model(model(), folder, EXAMPLE, techniques)
  assert isinstance(found, Quantized)
  (row,) = ship(
    [("trained", found)], folder, validation=images(32, 1), test=images(64, 2)
  )
  assert row["differs"] <= 1
  assert row["accuracy"] > 0.9


def test_resumed_it_ends_with_the_same_bits(trained, tmp_path):
  techniques = [Pretrained(str(trained)), Quantize(learned=True)]
  ends = []
  for name, stages in (("whole", (3,)), ("parts", (1, 3))):
    for epochs in stages:
      train(tmp_path / name, epochs, techniques)
    found = best_model(model(), RunFolder(tmp_path / name), EXAMPLE, techniques)
    ends.append(nnx.state(found))
  chex.assert_trees_all_equal(*ends)


def test_what_is_told_is_what_is_made():
  technique = Quantize(
    weights="int4", activations="", per="tensor", layers={"classifier*": "int8"}
  )
  found = technique.model(model(), EXAMPLE)
  *most, last = found.weights
  assert set(most) == {Scheme("int4", per="tensor")}
  assert last == Scheme("int8", per="tensor")
  assert found.activations is None
  assert hash(technique) == hash(Quantize(**vars(technique)))


def test_pretrained_gives_the_runs_own_model(trained):
  given = Pretrained(str(trained)).model(model(), EXAMPLE)
  expected = best_model(model(), RunFolder(trained), EXAMPLE)
  chex.assert_trees_all_equal(nnx.state(given), nnx.state(expected))


def test_pretrained_leaves_nothing_where_there_is_no_run(tmp_path):
  with pytest.raises(UserError, match="is no run folder"):
    Pretrained(str(tmp_path)).model(model(), EXAMPLE)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda _: Quantize(weights="int3"), "dtype: 'int3' is none of"),
    (
      lambda _: Quantize(layers={"last": "int4"}).model(model(), EXAMPLE),
      "config.techniques.layers: 'last' is no weight's path; there are",
    ),
    (
      lambda _: Pretrained("runs/none").model(model(), EXAMPLE),
      "config.techniques.folder: runs/none is no run folder; train there",
    ),
    (
      lambda folder: Pretrained(str(folder)).model(
        Net(features=4),
        EXAMPLE,
      ),
      "float.*: holds another model",
    ),
  ],
)
def test_what_cannot_be_is_told(trained, make, message):
  with pytest.raises(ValueError, match=message) as caught:
    make(trained)
  assert isinstance(caught.value, UserError) or "dtype" in message
