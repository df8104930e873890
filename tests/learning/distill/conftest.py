"""What the tests of distillation are given."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tests.learning.distill.nets import Net, blobs


@pytest.fixture
def example():
  return jax.ShapeDtypeStruct((1, 4), jnp.float32)


@pytest.fixture
def batch():
  """Of which the last asks nothing."""
  data = blobs(8)
  labels = jax.nn.one_hot(data.labels, 3).at[-1].set(0)
  return {
    "inputs": jnp.asarray(data.inputs),
    "labels": labels,
    "index": jnp.arange(8),
  }


@pytest.fixture
def net():
  return Net(nnx.Rngs(0))


@pytest.fixture
def teacher():
  """Another model, whose statistics are none of a new one."""
  model = Net(nnx.Rngs(1), features=10, depth=4)
  model.norm.mean[...] += 0.5
  return model
