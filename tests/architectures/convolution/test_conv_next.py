import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution.conv_next import (
  ConvNeXtBlock,
  global_response_norm,
)
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(("version", "expansion"), [(1, 4), (2, 3)])
def test_exam(version, expansion):
  def make(**arguments):
    return ConvNeXtBlock(
      8, 8, version=version, expansion=expansion, **arguments
    )

  hidden = expansion * 8
  params = (49 * 8 + 8) + 2 * 8 + (8 * hidden + hidden) + (hidden * 8 + 8)
  params += 8 if version == 1 else 2 * hidden
  macs = 2 * 35 * (49 * 8 + 2 * 8 * hidden)
  check_block(make, X, X.shape, params=params, macs=macs)


@pytest.mark.parametrize("version", [1, 2])
def test_equals_the_papers_steps(version):
  block = ConvNeXtBlock(8, 8, (3, 3), version=version, rngs=nnx.Rngs(0))
  # All are drawn: what starts at zero would hide its part.
  state = nnx.state(block, nnx.Param)
  keys = iter(jax.random.split(jax.random.key(1), 20))
  nnx.update(
    block,
    jax.tree.map(lambda a: jax.random.normal(next(keys), a.shape), state),
  )
  get = np.asarray
  filters = get(block.depthwise.kernel[...])[:, :, 0]
  padded = np.pad(get(X), ((0, 0), (1, 1), (1, 1), (0, 0)))
  x = np.zeros(X.shape)
  for i, j in np.ndindex(3, 3):
    x += padded[:, i : i + 7, j : j + 5] * filters[i, j]
  x += get(block.depthwise.bias[...])
  x -= x.mean(-1, keepdims=True)
  x /= np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  x = x * get(block.norm.scale[...]) + get(block.norm.bias[...])
  x = x @ get(block.expand.kernel[...])[0, 0] + get(block.expand.bias[...])
  x = np.asarray(jax.nn.gelu(x))
  if version == 2:
    norm = np.sqrt((x**2).sum((1, 2), keepdims=True))
    relative = norm / norm.mean(-1, keepdims=True)
    x = (
      x
      + get(block.response.bias[...])
      + (get(block.response.scale[...]) * x * relative)
    )
  x = x @ get(block.project.kernel[...])[0, 0] + get(block.project.bias[...])
  if version == 1:
    x = x * get(block.scale[...])
  wanted = get(X) + x
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(block(X), wanted, rtol=0, atol=1e-5 * scale)


def test_version_1_starts_as_nearly_the_identity():
  block = ConvNeXtBlock(8, 8, rngs=nnx.Rngs(0))
  np.testing.assert_array_equal(block.scale[...], np.float32(1e-6))
  change = jnp.abs(block(X) - X).max()
  assert 0 < change < 1e-4


def test_a_channel_without_signal_has_a_slope():
  gradient = jax.grad(
    lambda x: global_response_norm(x, jnp.ones(8), jnp.ones(8)).sum()
  )
  assert jnp.isfinite(gradient(jnp.zeros((1, 2, 2, 8)))).all()
  assert jnp.isfinite(gradient(X.at[..., 3].set(0))).all()


@pytest.mark.parametrize(
  ("features", "arguments", "message"),
  [
    (12, {}, "out_features: 12 is not in_features, 8, which ConvNeXtBlock"),
    (8, {"strides": 2}, "strides: 2 is not 1"),
    (8, {"strides": (1, 2)}, r"strides: \(1, 2\) is not 1"),
    (8, {"version": 3}, "version: 3 is neither 1 nor 2"),
    (8, {"activation": "gellu"}, "activation: 'gellu' is none of"),
  ],
)
def test_refuses(features, arguments, message):
  with pytest.raises(ValueError, match=message):
    ConvNeXtBlock(8, features, **arguments, rngs=nnx.Rngs(0))
