"""A small network with one of each that runtimes compute in integers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.architectures.convolution import Conv, DepthwiseConv, max_pool

SHAPE = (8, 8, 3)
EXAMPLE = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)


class Net(nnx.Module):
  """Convolutions, products, a residual sum, a gate, pools."""

  def __init__(self, rngs):
    self.first = Conv(3, 8, (3, 3), rngs=rngs)
    self.depthwise = DepthwiseConv(8, (3, 3), rngs=rngs)
    self.mixing = Conv(8, 8, (1, 1), use_bias=False, rngs=rngs)
    self.gate = nnx.Linear(8, 8, rngs=rngs)
    self.out = nnx.Linear(16, 4, rngs=rngs)
    self.scale = nnx.Param(jnp.linspace(0.5, 1.5, 8))

  def __call__(self, x):
    x = max_pool(jax.nn.relu(self.first(x)))
    y = jax.nn.relu6(self.depthwise(x))
    x = x + self.mixing(y) * self.scale[...]
    gate = jax.nn.sigmoid(self.gate(x.mean((1, 2))))
    x = x * gate[:, None, None]
    x = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)
    return self.out(x)


def images(size=16, seed=0):
  return jax.random.normal(jax.random.key(seed), (size, *SHAPE))


def net():
  model = Net(nnx.Rngs(0))
  draw = np.random.default_rng(0)
  for each in (model.first, model.depthwise, model.gate, model.out):
    each.bias[...] = jnp.asarray(draw.normal(size=each.bias.shape), "float32")
  return model


def run(model, x):
  graphdef, state = nnx.split(model)
  return jax.jit(lambda s, x: nnx.merge(graphdef, s)(x))(state, x)
