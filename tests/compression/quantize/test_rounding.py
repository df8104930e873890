"""Rounding by outputs, against rounding to the nearest and known answers."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import Conv, DepthwiseConv
from effarch.compression.quantize import Scheme, post_training, round_weights
from effarch.compression.quantize.rounding import ROUNDINGS, _hessian

SCHEME = Scheme("int4")
each_method = pytest.mark.parametrize("method", ROUNDINGS)


def dense(x, weight):
  return x @ weight


def correlated(seed, number=256, size=12):
  draw = np.random.default_rng(seed)
  mixing = draw.normal(size=(size, size)) * 0.8 ** np.arange(size)
  return jnp.asarray(draw.normal(size=(number, size)) @ mixing, jnp.float32)


def nearest(weight, scheme=SCHEME, axis=1):
  return scheme.fake(weight, *scheme.parameters(*scheme.range_of(weight, axis)))


def error(x, weight, rounded):
  return float(jnp.square(dense(x, weight) - dense(x, rounded)).mean())


@each_method
def test_least_squares_problems_are_solved_better_than_by_the_nearest(method):
  ratios = []
  for seed in range(5):
    x = correlated(seed)
    weight = jax.random.normal(jax.random.key(seed), (12, 6))
    found = ROUNDINGS[method](dense, x, weight, SCHEME, 1)
    ratios.append(error(x, weight, found) / error(x, weight, nearest(weight)))
    steps = found / SCHEME.parameters(*SCHEME.range_of(weight, 1))[0]
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    assert np.abs(steps).max() < 7.01
  assert max(ratios) < 1
  assert np.mean(ratios) < {"adaround": 0.93, "gptq": 0.7}[method]


@each_method
def test_it_comes_near_the_best_of_all_roundings(method):
  """Of five numbers all thirty-two roundings up or down can be tried."""
  ratios = []
  for seed in range(8):
    x = correlated(seed, size=5)
    weight = jax.random.normal(jax.random.key(seed), (5, 1))
    scale, _ = SCHEME.parameters(*SCHEME.range_of(weight, 1))
    below = jnp.floor(weight / scale)
    best = min(
      error(x, weight, jnp.clip(below + np.reshape(up, (5, 1)), -7, 7) * scale)
      for up in itertools.product((0, 1), repeat=5)
    )
    found = ROUNDINGS[method](dense, x, weight, SCHEME, 1)
    ratios.append(
      [error(x, weight, each) / best for each in (found, nearest(weight))]
    )
  found, plain = np.mean(ratios, 0)
  assert plain > 3
  assert found < {"adaround": 2.3, "gptq": 1.5}[method]


@each_method
def test_what_is_on_the_grid_stays(method):
  weight = nearest(jax.random.normal(jax.random.key(0), (12, 6)))
  found = ROUNDINGS[method](dense, correlated(0), weight, SCHEME, 1)
  chex.assert_trees_all_close(found, weight, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_hessians_are_those_of_the_patches(groups):
  x = jax.random.normal(jax.random.key(0), (3, 5, 5, 4))
  conv = Conv(4, 8, (3, 3), groups=groups, use_bias=False, rngs=nnx.Rngs(0))

  def layer(x, kernel):
    conv.kernel[...] = kernel
    return conv(x)

  kernel = conv.kernel[...]
  graphdef, _ = nnx.split(conv)

  def pure(x, kernel):
    return nnx.merge(graphdef, nnx.State({"kernel": nnx.Param(kernel)}))(x)

  found = _hessian(pure, x, kernel, 3)
  padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
  patches = np.stack(
    [padded[:, i : i + 5, j : j + 5] for i in range(3) for j in range(3)], -2
  ).reshape(75, 9, groups, 4 // groups)
  for channel in range(8):
    own = patches[:, :, channel * groups // 8].reshape(75, -1)
    each = found[min(channel, len(found) - 1)]
    np.testing.assert_allclose(each, own.T @ own, rtol=1e-4, atol=1e-3)
  assert len(found) == (1 if groups == 1 else 8)


class Net(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.first = Conv(2, 8, (3, 3), rngs=rngs)
    self.depthwise = DepthwiseConv(8, (3, 3), rngs=rngs)
    self.out = nnx.Linear(8, 4, rngs=rngs)
    self.scale = nnx.Param(jnp.ones(4))

  def __call__(self, x):
    x = nnx.relu(self.depthwise(nnx.relu(self.first(x)))).mean((1, 2))
    return self.out(x) @ (jnp.eye(4) * self.scale[...])


@each_method
def test_a_models_outputs_are_nearer_than_rounded_to_the_nearest(method):
  x = jax.random.normal(jax.random.key(0), (64, 6, 6, 2))
  plain = Net()(x)
  errors = []
  for rounds in (False, True):
    model = post_training(Net(), [x], weights=SCHEME, activations=None)
    if rounds:
      assert round_weights(model, x, method) == ["scale"]
    errors.append(float(jnp.square(model(x) - plain).mean()))
    kernel = model.model.first.kernel[...]
  assert errors[1] < 0.8 * errors[0]
  # The weights are on the grid, and rounded once more they stay.
  scale = model.scales["0"][...]
  chex.assert_trees_all_close(jnp.round(kernel / scale) * scale, kernel)
  chex.assert_trees_all_close(model.rounded_weight(0, 3, kernel), kernel)
