import functools

import jax
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import SqueezeExcite
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


def test_exam():
  check_block(
    functools.partial(SqueezeExcite, 8, 3),
    X,
    X.shape,
    params=2 * 8 * 3 + 3 + 8,
    macs=2 * (2 * 8 * 3),
  )


def test_channels_are_scaled_by_a_gate_of_all_means():
  layer = SqueezeExcite(8, 3, gate="hard_sigmoid", rngs=nnx.Rngs(0))
  layer.reduce.bias[...] = np.float32([0.1, 0.2, 0.3])
  hidden = np.asarray(X).mean((1, 2)) @ layer.reduce.kernel[...]
  hidden = np.maximum(hidden + layer.reduce.bias[...], 0)
  gate = np.clip((hidden @ layer.expand.kernel[...] + 3) / 6, 0, 1)
  wanted = np.asarray(X) * gate[:, None, None]
  np.testing.assert_allclose(layer(X), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("squeezed", "arguments", "message"),
  [
    (0, {}, "squeezed_features: 0 is not positive"),
    (2, {"gate": "sigmid"}, "activation: 'sigmid' is none of"),
  ],
)
def test_refuses(squeezed, arguments, message):
  with pytest.raises(ValueError, match=message):
    SqueezeExcite(8, squeezed, **arguments, rngs=nnx.Rngs(0))
