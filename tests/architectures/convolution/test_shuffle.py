import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import (
  ShuffleV1,
  ShuffleV2,
  channel_shuffle,
)
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


def test_channels_of_groups_take_turns():
  x = jnp.broadcast_to(jnp.arange(6.0), (1, 2, 3, 6))
  found = channel_shuffle(x, 2)
  np.testing.assert_array_equal(found[0, 1, 2], [0, 3, 1, 4, 2, 5])
  np.testing.assert_array_equal(channel_shuffle(found, 3), x)
  with pytest.raises(ValueError, match="groups: 4 does not divide 6 channels"):
    channel_shuffle(x, 4)


@pytest.mark.parametrize(
  ("features", "strides", "groups"), [(8, 1, 2), (24, 2, 3)]
)
def test_exam(features, strides, groups):
  x = X if groups == 2 else jnp.concatenate([X, X[..., :4]], -1)
  start = x.shape[-1]
  made = features if strides == 1 else features - start
  hidden = features // 4
  mixing = start * hidden // groups
  rest = 9 * hidden + hidden * made // groups
  check_block(
    functools.partial(
      ShuffleV1, start, features, strides=strides, groups=groups
    ),
    x,
    (2, 7, 5, features) if strides == 1 else (2, 4, 3, features),
    params=mixing + rest + 2 * (2 * hidden + made),
    macs=2 * (35 * mixing + (35 if strides == 1 else 12) * rest),
  )


@pytest.mark.parametrize(("features", "strides"), [(8, 1), (12, 1), (8, 2)])
def test_exam_of_the_second(features, strides):
  half = features // 2
  keeps = features == 8 and strides == 1
  start = 4 if keeps else 8
  mixing, rest = start * half, 9 * half + half * half
  params = mixing + rest + 6 * half
  if not keeps:
    rest += 9 * 8 + 8 * half
    params += 9 * 8 + 8 * half + 2 * (8 + half)
  check_block(
    functools.partial(ShuffleV2, 8, features, strides=strides),
    X,
    (2, 7, 5, features) if strides == 1 else (2, 4, 3, features),
    params=params,
    macs=2 * (35 * mixing + (35 if strides == 1 else 12) * rest),
  )


def test_groups_meet_between_the_convolutions_of_the_first():
  block = ShuffleV1(16, 16, groups=2, rngs=nnx.Rngs(0))
  block.eval()
  # The first half of the inputs reaches the second half of the outputs.
  x = jnp.concatenate([X, X], -1)
  moved = np.asarray(block(x.at[..., 0].add(3.0)) - block(x))
  assert np.any(np.abs(moved[..., 8:]) > 1e-4)


def test_with_strides_the_mean_of_inputs_is_beside_the_outputs():
  block = ShuffleV1(8, 16, strides=2, rngs=nnx.Rngs(0))
  block.eval()
  x = np.asarray(X)
  found = np.asarray(block(X))[..., :8]
  # 7 x 5 places, so that windows of 3 x 3 are centred on every second one.
  for i, j in np.ndindex(4, 3):
    seen = x[:, max(0, 2 * i - 1) : 2 * i + 2, max(0, 2 * j - 1) : 2 * j + 2]
    np.testing.assert_allclose(found[:, i, j], seen.mean((1, 2)), atol=1e-5)


def test_half_of_the_channels_pass_the_second():
  block = ShuffleV2(8, 8, rngs=nnx.Rngs(0))
  np.testing.assert_array_equal(block(X)[..., ::2], X[..., :4])


@pytest.mark.parametrize(
  ("block", "features", "arguments", "message"),
  [
    (ShuffleV1, 12, {}, "out_features: 12 is not 8, the inputs"),
    (ShuffleV1, 8, {"strides": 2}, "out_features: 8 is not 8, the inputs, or"),
    (ShuffleV1, 8, {"groups": 3}, "groups: 3 does not divide a quarter of 8"),
    (ShuffleV2, 9, {}, "out_features: 9 has no halves"),
  ],
)
def test_refuses(block, features, arguments, message):
  with pytest.raises(ValueError, match=message):
    block(8, features, **arguments, rngs=nnx.Rngs(0))
