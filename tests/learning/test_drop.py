"""Dropout and its kin: what is zero, what the means are, and what ships."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.models import CifarResNet, Encoder
from effarch.errors import UserError
from effarch.infrastructure.training import classification_loss
from effarch.learning.drop import (
  DropBlock,
  Dropout,
  SpatialDropout,
  StochasticDepth,
  outside_blocks,
)
from effarch.learning.dropping import Wrapped

EXAMPLE = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
BATCH = {
  "inputs": IMAGES,
  "labels": jax.nn.one_hot(jnp.arange(4) % 2, 2),
  "index": jnp.arange(4),
  "progress": jnp.float32(0.0),
}
ALL = [Dropout(), SpatialDropout(0.5), DropBlock(0.5, block_size=2)]
ALL += [StochasticDepth(0.9)]


def resnet():
  return CifarResNet((8, 8, 3), 2, blocks=1, rngs=nnx.Rngs(0))


def losses(technique, model, key):
  batch = technique.batch(BATCH, key)
  return technique.loss(classification_loss)(model, batch)[0]


@pytest.mark.parametrize("technique", ALL)
def test_only_training_is_disturbed_and_the_plain_model_ships(technique):
  plain, model = resnet(), technique.model(resnet(), EXAMPLE)
  model.train()
  run = jax.jit(
    lambda state, key: losses(
      technique, nnx.merge(graphdef, state, copy=True), key
    )
  )
  graphdef, state = nnx.split(model)
  first, again, other = (run(state, jax.random.key(k)) for k in (0, 0, 1))
  chex.assert_trees_all_equal(first, again)
  assert not np.allclose(first, other)

  for each in (plain, model):
    each.eval()
  expected = plain(IMAGES)
  chex.assert_trees_all_equal(model(IMAGES), expected)
  model = technique.finish(model)
  chex.assert_trees_all_equal(model(IMAGES), expected)
  # By paths too.
  assert str(nnx.graphdef(model)) == str(nnx.graphdef(plain))
  chex.assert_trees_all_equal(nnx.state(model), nnx.state(plain))


@pytest.mark.parametrize(
  "technique",
  [Dropout(0.0), SpatialDropout(0.0), DropBlock(0.0), StochasticDepth(0.0)],
)
def test_off_is_absent(technique):
  plain, model = resnet(), technique.model(resnet(), EXAMPLE)
  assert str(nnx.graphdef(model)) == str(nnx.graphdef(plain))
  assert technique.batch(BATCH, jax.random.key(0)) is BATCH
  assert technique.loss(classification_loss) is classification_loss


def ran(technique, x, rate, count=2000):
  """What a layer that adds 1 gives, many times."""
  keys = jax.random.split(jax.random.key(0), count)
  x = jnp.asarray(x)
  run = jax.vmap(lambda key: technique.run(lambda x: x + 1, x, rate, key))
  return np.asarray(jax.jit(run)(keys))


X = np.random.default_rng(0).uniform(1, 2, (2, 5, 4, 3)).astype(np.float32)


def test_dropout_keeps_the_mean_and_scales_what_is_left():
  inputs = ran(Dropout(), X, 0.3) - 1  # The layer sees zeros.
  zero = inputs == 0
  assert zero.mean() == pytest.approx(0.3, abs=0.01)
  np.testing.assert_allclose(
    inputs[~zero], np.broadcast_to(X / 0.7, inputs.shape)[~zero], rtol=1e-4
  )
  np.testing.assert_allclose(inputs.mean(0), X, atol=0.15)


def test_spatial_dropout_takes_whole_channels_of_what_a_layer_gives():
  given = ran(SpatialDropout(), X, 0.3)
  zero = given == 0
  assert np.all(zero == zero[:, :, :1, :1])
  assert zero.mean() == pytest.approx(0.3, abs=0.02)
  np.testing.assert_allclose(given.mean(0), X + 1, atol=0.2)


def test_stochastic_depth_leaves_whole_examples_and_keeps_the_mean():
  given = ran(StochasticDepth(), X, 0.3)
  left = np.isclose(given, X).all((2, 3, 4))
  kept = np.isclose(given, X + 1 / 0.7, rtol=1e-5).all((2, 3, 4))
  assert np.all(left ^ kept)
  assert left.mean() == pytest.approx(0.3, abs=0.03)
  # In evaluation the layer gives X + 1.
  np.testing.assert_allclose(given.mean(0), X + 1, atol=0.05)
  # What changes the shape is no residual.
  shrunk = StochasticDepth().run(
    lambda x: x[:, ::2], jnp.asarray(X), 0.9, jax.random.key(0)
  )
  np.testing.assert_array_equal(shrunk, X[:, ::2])


def test_stochastic_depth_grows_evenly():
  model = CifarResNet((8, 8, 3), 2, blocks=2, rngs=nnx.Rngs(0))
  model = StochasticDepth(0.6).model(model, EXAMPLE)
  rates = [x.rate for x in model.layers if isinstance(x, Wrapped)]
  np.testing.assert_allclose(rates, np.arange(1, 7) / 10)


def test_drop_block_drops_whole_blocks_of_about_the_rate():
  shape, size = (64, 9, 8, 16), 3
  kept = np.asarray(outside_blocks(jax.random.key(0), shape, 0.1, size))
  dropped = ~kept
  # Each dropped place is in a square that is dropped as a whole.
  covered = np.zeros(shape, bool)
  for i in range(9 - size + 1):
    for j in range(8 - size + 1):
      square = np.s_[:, i : i + size, j : j + size]
      whole = dropped[square].all((1, 2), keepdims=True)
      covered[square] |= whole
  np.testing.assert_array_equal(covered, dropped)
  # Squares overlap now and then.
  assert 0.085 < dropped.mean() < 0.1
  # Channels have their own.
  assert not np.all(dropped == dropped[..., :1])


def test_drop_block_scales_up_by_what_is_missing():
  given = ran(DropBlock(block_size=2), X, 0.2, count=5)
  for each in given:
    kept = each != 0
    np.testing.assert_allclose(
      each[kept], (X + 1)[kept] / kept.mean(), rtol=1e-4
    )
  one = DropBlock(block_size=1)
  assert (ran(one, X, 0.3) == 0).mean() == pytest.approx(0.3, abs=0.01)


def test_a_layer_called_twice_draws_twice():
  layer = Wrapped(nnx.Linear(32, 1, rngs=nnx.Rngs(0)), Dropout(), 0.5)
  x = jnp.ones((1, 32))
  assert not np.allclose(layer(x), layer(x))


def test_layers_are_found_by_their_paths_and_the_outermost_taken():
  model = SpatialDropout(where="layers.*").model(resnet(), EXAMPLE)
  wrapped = [p for p, m in nnx.iter_modules(model) if isinstance(m, Wrapped)]
  assert wrapped == [("layers", place) for place in range(4)]
  # Under another's wrapper the path is the same.
  model = SpatialDropout(where="layers.1").model(model, EXAMPLE)
  assert isinstance(model.layers[1].inner, Wrapped)
  model = SpatialDropout(where="layers.*").finish(model)
  assert not isinstance(model.layers[0], Wrapped)
  assert not isinstance(model.layers[1].inner, Wrapped)
  with pytest.raises(UserError, match=r"'clasifier'.*'classifier'"):
    Dropout(where="clasifier").model(resnet(), EXAMPLE)
  with pytest.raises(UserError, match="has none"):
    StochasticDepth().model(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), EXAMPLE)


def test_transformers_layers_are_residual():
  model = Encoder((6, 3), 2, features=8, hidden_features=8, rngs=nnx.Rngs(0))
  model = StochasticDepth(0.5).model(model, EXAMPLE)
  assert all(isinstance(block, Wrapped) for block in model.blocks)
  chex.assert_shape(model(jnp.ones((2, 6, 3))), (2, 2))


@pytest.mark.parametrize(
  ("technique", "arguments"),
  [
    (Dropout, {"rate": 1.0}),
    (StochasticDepth, {"rate": -0.1}),
    (DropBlock, {"block_size": 0}),
  ],
)
def test_refuses_the_impossible(technique, arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    technique(**arguments)
