"""Bits under a budget: all choices of a small model tried."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.compression.quantize import Quantized, Scheme, choose
from effarch.compression.quantize.mixed import COSTS
from effarch.compression.quantize.traced import Traced

FINE, COARSE = Scheme("int8"), Scheme("int2")


class Net(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.first = nnx.Linear(8, 16, rngs=rngs)
    self.second = nnx.Linear(16, 32, rngs=rngs)
    self.third = nnx.Linear(32, 4, rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.first(x))
    return self.third(nnx.relu(self.second(x))) * 4


X = jax.random.normal(jax.random.key(0), (256, 8))
SIZES = {"first.kernel": 128, "second.kernel": 512, "third.kernel": 128}


def divergence(layers):
  model = Quantized(
    Net(),
    jax.ShapeDtypeStruct((1, 8), "float32"),
    weights=None,
    activations=None,
    layers=layers,
  )
  model.eval()
  true = jax.nn.log_softmax(Net()(X))
  return float(
    (jnp.exp(true) * (true - jax.nn.log_softmax(model(X)))).sum(-1).mean()
  )


@pytest.mark.parametrize("budget", [300, 400, 650, 700])
def test_no_other_choice_within_the_budget_is_much_better(budget):
  found = choose(Net(), X, budget, schemes=(FINE, COARSE))

  def size(layers):
    return sum(SIZES[name] * s.bits / 8 for name, s in layers.items())

  assert size(found) <= budget
  others = [
    dict(zip(SIZES, schemes, strict=True))
    for schemes in itertools.product((FINE, COARSE), repeat=3)
  ]
  best = min(divergence(o) for o in others if size(o) <= budget)
  assert divergence(found) <= 1.3 * best + 1e-3


def test_without_need_all_are_the_finest():
  assert set(choose(Net(), X, 768).values()) == {Scheme("int8")}


def test_a_budget_that_cannot_be_met_is_told():
  with pytest.raises(ValueError, match="budget: 300 is less than the 384 of"):
    choose(Net(), X, 300)


def test_costs_are_bytes_and_products_of_bits():
  layers = Traced(Net(), jax.ShapeDtypeStruct((3, 8), "float32")).layers
  bytes_ = [COSTS["bytes"](each, Scheme("int4")) for each in layers]
  np.testing.assert_array_equal(bytes_, [64, 256, 64])
  found = [COSTS["bit_operations"](each, Scheme("int4")) for each in layers]
  np.testing.assert_array_equal(found, [128 * 32, 512 * 32, 128 * 32])
