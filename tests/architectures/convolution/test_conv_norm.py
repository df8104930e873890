import chex
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from effarch.architectures.convolution import (
  Conv,
  ConvNorm,
  GroupedConv,
  fold,
  folded,
)
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("strides", "groups", "places"), [(1, 1, 35), (2, 4, 12)]
)
def test_exam(strides, groups, places):
  def make(**arguments):
    block = GroupedConv if groups == 4 else ConvNorm
    return block(8, 12, strides=strides, **arguments)

  weights = 9 * 8 * 12 // groups
  shape = (2, 7, 5, 12) if strides == 1 else (2, 4, 3, 12)
  check_block(
    make, X, shape, params=weights + 2 * 12, macs=2 * places * weights
  )


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_any_pair_folds(use_bias, learned):
  rngs = nnx.Rngs(0)
  conv = Conv(8, 6, (3, 3), use_bias=use_bias, rngs=rngs)
  norm = nnx.BatchNorm(6, use_scale=learned, use_bias=learned, rngs=rngs)
  norm(5 * conv(X) + 2)  # Statistics far from those at the start.
  norm.eval()
  if use_bias:
    conv.bias[...] = jnp.arange(6.0)
  whole = Conv(8, 6, (3, 3), rngs=rngs)
  whole.kernel[...], whole.bias[...] = folded(conv, norm)
  chex.assert_trees_all_close(whole(X), norm(conv(X)), rtol=1e-5, atol=1e-5)


def test_folding_leaves_the_model_as_it_was():
  model = nnx.Sequential(
    ConvNorm(8, 4, (1, 1), rngs=nnx.Rngs(0)), lambda x: x.mean((1, 2))
  )
  model.eval()
  before = jax.tree.map(jnp.copy, nnx.state(model))
  copy = fold(model)
  chex.assert_trees_all_equal(nnx.state(model), before)
  assert not jax.tree.leaves(nnx.state(copy, nnx.BatchStat))


def test_refuses_an_unknown_activation():
  with pytest.raises(ValueError, match="activation: 'rellu' is none of"):
    ConvNorm(8, 4, activation="rellu", rngs=nnx.Rngs(0))
