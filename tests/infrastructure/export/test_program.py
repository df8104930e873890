"""A flat program computes what the model does, with nothing more in it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.extend import core

from effarch.architectures.attention import ATTENTION
from effarch.architectures.convolution import DepthwiseConv
from effarch.errors import UserError
from effarch.infrastructure.export.program import Note, flat

EXAMPLE = jax.ShapeDtypeStruct((1, 6, 6, 4), jnp.float32)


class Given(nnx.Module):
  def __init__(self, function):
    self.function = function

  def __call__(self, x):
    return self.function(x)


def names(program):
  return [equation.primitive.name for equation in program.eqns]


def compare(model, example=EXAMPLE):
  x = jax.random.normal(jax.random.key(0), example.shape)
  program = flat(model, example)
  (found,) = core.jaxpr_as_fun(program)(x)
  chex.assert_trees_all_close(found, model(x), rtol=1e-5, atol=1e-6)
  return names(program)


def test_calls_and_platforms_vanish():
  # On a CPU it calls oneDNN, which no file can hold.
  assert compare(DepthwiseConv(4, (3, 3), rngs=nnx.Rngs(0))) == [
    "conv_general_dilated",
    "add",
  ]

  @jax.jit
  def inner(x):
    return lax.platform_dependent(
      x, cpu=lambda x: jnp.exp(jnp.log1p(x)) - 1, default=lambda x: x
    )

  assert names(flat(Given(lambda x: inner(x) * 2), EXAMPLE)) == ["mul"]
  assert compare(Given(jax.checkpoint(jax.nn.relu))) == ["max"]


def test_platforms_without_a_default_are_refused():
  def named(x):
    return lax.platform_dependent(x, cpu=jnp.exp, cuda=jnp.exp)

  with pytest.raises(UserError, match="a default"):
    flat(Given(named), EXAMPLE)


def test_what_is_known_is_computed_if_that_is_no_larger():
  weight = jnp.arange(16.0).reshape(4, 4)
  assert compare(Given(lambda x: x @ (weight.T * 2 + 1))) == ["dot_general"]

  def grown(x):
    return x.sum() + jnp.broadcast_to(weight[0], (1000, 4))

  assert "broadcast_in_dim" in compare(Given(grown))


def test_what_nobody_reads_is_left_out():
  def wasteful(x):
    jnp.sin(x)
    return x + 1

  assert compare(Given(wasteful)) == ["add"]


def test_a_branch_of_what_is_known_is_taken():
  def branches(x):
    return lax.switch(jnp.int32(1), [lambda x: x, jnp.tanh, jnp.exp], x)

  assert compare(Given(branches)) == ["tanh"]


def test_gathering_all_in_order_is_no_gathering():
  def gathered(x):
    return x[:, jnp.arange(6)].reshape(1, -1)

  assert "gather" not in compare(Given(gathered))
  assert "gather" in compare(Given(lambda x: x[:, jnp.array([1, 0, 2])]))


def test_heads_are_cut_without_gathering():
  mixer = ATTENTION["full"](8, 2, rngs=nnx.Rngs(0))
  mixer.eval()
  found = compare(mixer, jax.ShapeDtypeStruct((1, 5, 8), jnp.float32))
  assert not {"gather", "dynamic_slice", "scan", "while"} & set(found)


def test_notes_store_what_they_read_back():
  rng = np.random.default_rng(0)
  for bits, narrow in ((8, False), (8, True), (4, True)):
    least = -(2 ** (bits - 1)) + narrow
    integers = rng.integers(least, 2 ** (bits - 1), (5, 3)).astype(np.int8)
    scale = rng.uniform(0.1, 2, 3).astype(np.float32)
    zero = np.zeros(3, np.int64)
    note = Note(scale, zero, bits, narrow, axis=1)
    floats = note.floats(jnp.asarray(integers))
    chex.assert_trees_all_close(floats, integers * scale)
    np.testing.assert_array_equal(note.integers(floats), integers)
    # What is beyond stays at the ends.
    ends = note.integers(1e6 * np.array([[-1, 1, -1]]))
    np.testing.assert_array_equal(ends, [[least, 2 ** (bits - 1) - 1, least]])
  note = Note(np.float32([0.5]), np.int64([-7]), 8, False, None)
  np.testing.assert_array_equal(note.integers([0.0, 1.0]), [-7, -5])
