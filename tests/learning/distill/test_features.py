"""Inner tensors are seen, and nothing is changed by it."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.models import MODELS
from effarch.errors import UserError
from effarch.learning.distill.pairs import pairs
from effarch.learning.watch import complete, find, shapes, watch


class Own(nnx.Linear):
  """Inherits its call."""


def test_tensors_and_their_gradients_are_those_of_the_layers(net, batch):
  x = batch["inputs"]

  @jax.jit
  @jax.grad
  def gradient(weights, state):
    graphdef, _ = nnx.split(net)
    model = nnx.merge(graphdef, state, copy=True)
    model.layers[0].kernel[...] = weights
    with watch(model, ["layers.1", "", "layers.0"]) as seen:
      model(x)
    assert set(seen) == {"", "layers.0", "layers.1"}
    assert seen[""].shape == (8, 3)
    return jnp.square(seen["layers.1"]).sum()

  first, second = net.layers

  def directly(weights):
    hidden = nnx.relu(x @ weights + first.bias[...])
    return jnp.square(second(hidden)).sum()

  weights = first.kernel[...]
  np.testing.assert_allclose(
    gradient(weights, nnx.state(net)), jax.grad(directly)(weights), rtol=1e-5
  )


def test_classes_are_as_they_were_even_after_an_error(net, batch):
  net.layers[1] = Own(6, 6, rngs=nnx.Rngs(0))
  call = nnx.Linear.__call__
  with watch(net, ["layers.0"]), watch(net, ["layers.1"]):
    assert nnx.Linear.__call__ is not call
  with pytest.raises(AttributeError), watch(net, ["layers.0", "layers.1"]):
    net(None)
  assert nnx.Linear.__call__ is call
  assert "__call__" not in vars(Own)
  before = {name: type(value) for name, value in vars(net).items()}
  with watch(net, [""]) as seen:
    net(batch["inputs"])
  assert {name: type(value) for name, value in vars(net).items()} == before
  # What is called later, or is another's, is not seen.
  last = seen[""]
  net(batch["inputs"] + 1)
  with watch(net, [""]) as others:
    copy.deepcopy(net)(batch["inputs"])
  assert seen[""] is last
  assert not others


def test_an_unknown_path_is_told(net):
  with pytest.raises(UserError, match=r"'layer.1' .* did you mean 'layers.1'"):
    find(net, "layer.1")


def test_what_is_not_called_is_told(net):
  with watch(net, ["out"]) as seen:
    pass
  with pytest.raises(UserError, match="'out' is not called"):
    complete(seen, ["out"])


@pytest.mark.parametrize(
  ("ours", "theirs", "expected"),
  [(2, 6, [2, 5]), (3, 3, [0, 1, 2]), (3, 2, [0, 0, 1]), (1, 4, [3])],
)
def test_layers_pair_evenly_and_the_last_meets_the_last(ours, theirs, expected):
  def layers(number):
    return nnx.Dict(
      blocks=nnx.List(
        [nnx.Linear(1, 1, rngs=nnx.Rngs(0)) for _ in range(number)]
      )
    )

  found = pairs(layers(ours), layers(theirs), [("blocks", "blocks")])
  assert found == [
    (f"blocks.{place}", f"blocks.{match}")
    for place, match in enumerate(expected)
  ]


def test_a_list_without_modules_is_told(net):
  net.functions = nnx.List([nnx.relu])
  with pytest.raises(UserError, match="'functions' holds no modules"):
    pairs(net, net, [("layers", "functions")])


def test_shapes_are_found_without_a_trace(example, net):
  before = nnx.state(nnx.clone(net))
  found = shapes(net, ["", "layers.0"], example)
  assert found["layers.0"].shape == (1, 6)
  assert found[""].shape == (1, 3)
  chex.assert_trees_all_equal(
    jax.tree.leaves(nnx.state(net, nnx.Not(nnx.RngState))),
    jax.tree.leaves(nnx.filter_state(before, nnx.Not(nnx.RngState))),
  )
  assert not net.dropout.deterministic


def test_a_transformers_layers_are_found():
  model = MODELS["encoder"](
    (5,), 2, vocab_size=7, features=8, num_heads=2, rngs=nnx.Rngs(0)
  )
  x = jax.ShapeDtypeStruct((1, 5), jnp.int32)
  paths = [a for a, _ in pairs(model, model, [("blocks", "blocks")])]
  assert [x.shape for x in shapes(model, paths, x).values()] == [(1, 5, 8)] * 2
