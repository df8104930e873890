import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from effarch.architectures.convolution import fold
from effarch.architectures.convolution.conditional import (
  CondConv,
  conditional_conv,
)
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("routing", "experts", "strides", "shape"),
  [
    ("sigmoid", 3, 1, (2, 7, 5, 12)),
    ("sigmoid", 1, 2, (2, 4, 3, 12)),
    ("softmax", 4, 2, (2, 4, 3, 12)),
  ],
)
def test_exam(routing, experts, strides, shape):
  def make(**arguments):
    return CondConv(
      *(8, 12),
      strides=strides,
      experts=experts,
      routing=routing,
      **arguments,
    )

  kernel = 9 * 8 * 12
  router = 8 * experts if routing == "sigmoid" else 8 * 2 + 2 * experts
  places = shape[1] * shape[2]
  check_block(
    make,
    X,
    shape,
    params=experts * kernel + router + 2 * 12,
    macs=2 * (places * kernel + experts * kernel + router),
  )


@pytest.mark.parametrize("taps", [(1, 1), (3, 2)])
def test_equals_the_weighted_sum_of_all_experts(taps):
  kernels = jax.random.normal(jax.random.key(1), (3, *taps, 8, 4))
  weights = jax.random.normal(jax.random.key(2), (2, 3))

  def naive(x, kernels, weights):
    parts = [
      lax.conv_general_dilated(
        *(x, kernel, (2, 1), "SAME"),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
      * weight[:, None, None, None]
      for kernel, weight in zip(kernels, weights.T, strict=True)
    ]
    return sum(parts)

  def loss(call, *arguments):
    return jnp.sum(jnp.sin(call(*arguments)))

  own = functools.partial(conditional_conv, strides=(2, 1))
  found, wanted = (
    jax.jit(jax.value_and_grad(functools.partial(loss, call), (0, 1, 2)))(
      X, kernels, weights
    )
    for call in (own, naive)
  )
  chex.assert_trees_all_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_routing_by_hand():
  sigmoid = CondConv(8, 4, experts=3, rngs=nnx.Rngs(0))
  means = np.asarray(X).mean((1, 2))
  logits = means @ np.asarray(sigmoid.router.kernel[...])
  np.testing.assert_allclose(
    sigmoid.route(X), 1 / (1 + np.exp(-logits)), rtol=1e-5
  )
  softmax = CondConv(
    8, 4, experts=3, routing="softmax", temperature=2.0, rngs=nnx.Rngs(0)
  )
  hidden = np.maximum(means @ np.asarray(softmax.squeeze.kernel[...]), 0)
  powers = np.exp(hidden @ np.asarray(softmax.router.kernel[...]) / 2)
  np.testing.assert_allclose(
    softmax.route(X), powers / powers.sum(-1, keepdims=True), rtol=1e-5
  )


def test_a_hot_softmax_weighs_all_alike():
  block = CondConv(
    8, 4, experts=4, routing="softmax", temperature=1e6, rngs=nnx.Rngs(0)
  )
  np.testing.assert_allclose(block.route(X), 0.25, atol=1e-5)


def test_each_expert_starts_as_a_convolution_does():
  block = CondConv(32, 32, experts=6, rngs=nnx.Rngs(0))
  deviation = np.asarray(block.kernels[...]).std((1, 2, 3, 4))
  np.testing.assert_allclose(deviation, (9 * 32) ** -0.5, rtol=0.05)


def test_a_second_fold_changes_nothing():
  block = CondConv(8, 4, rngs=nnx.Rngs(0))
  block.eval()
  once = fold(block)
  chex.assert_trees_all_equal(nnx.state(fold(once)), nnx.state(once))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"experts": 0}, "experts: 0 is not positive"),
    ({"routing": "hard"}, "routing: 'hard' is neither sigmoid nor softmax"),
    ({"temperature": 2.0}, r"temperature: 2.0 is not 1 \(sigmoid\)"),
    ({"temperature": 0.0, "routing": "softmax"}, "temperature: 0.0 is not"),
    ({"activation": "rellu"}, "activation: 'rellu' is none of"),
  ],
)
def test_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    CondConv(8, 4, **arguments, rngs=nnx.Rngs(0))
