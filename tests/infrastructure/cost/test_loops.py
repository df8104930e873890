"""Loops, branches, calls and shards: how often what is in them runs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental import pallas as pl
from jax.sharding import AxisType, PartitionSpec

from effarch.infrastructure.cost import count

SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def square(x):
  return x @ x


def matmuls(number):
  """MACs and FLOPs of products of two of the squares."""
  return 64 * number, 128 * number


def work(function, *args, **kwargs):
  """MACs and FLOPs of what the counter knows entirely."""
  found = count(function, *args, **kwargs)
  assert not found.unknown
  return found.macs, found.flops


def scanned(length, body=square):
  def loop(x):
    return jax.lax.scan(lambda c, _: (body(c), None), x, length=length)[0]

  return loop


def test_scan_multiplies_by_its_length():
  assert work(scanned(8), SQUARE) == matmuls(8)
  assert work(scanned(0), SQUARE) == (0, 0)
  assert work(scanned(3, scanned(8)), SQUARE) == matmuls(24)


def test_scan_inside_vmap_and_grad():
  assert work(jax.vmap(scanned(8)), array(5, 4, 4)) == matmuls(40)
  # Backward, both factors of each product get a gradient.
  gradient = jax.grad(lambda x: scanned(8)(x).sum())
  assert count(gradient, SQUARE).macs == 3 * 8 * 64


def test_fori_loop_with_constant_bounds_is_a_scan():
  def loop(x):
    return jax.lax.fori_loop(2, 7, lambda _, c: c @ c, x)

  assert count(loop, SQUARE).macs == 5 * 64


def test_cond_costs_its_costliest_branch():
  branches = [lambda x: x + 1, lambda x: x @ x @ x, lambda x: x @ x]

  def choose(index, x):
    return jax.lax.switch(index, branches, x)

  found = work(choose, array(dtype=jnp.int32), SQUARE)
  assert found == (128, 256 + 1)  # The index is clamped


def called_back(x):
  return jax.pure_callback(np.sin, x, x)


def test_cond_lists_what_any_branch_does_not_count():
  def choose(index, x):
    branches = lambda x: called_back(called_back(x)), square
    return jax.lax.cond(index, *branches, x)

  found = count(choose, array(dtype=jnp.bool_), SQUARE)
  assert (found.macs, found.flops) == matmuls(1)
  assert found.unknown == {"pure_callback": 2}


@jax.custom_jvp
def own_forward(x):
  return x @ x


own_forward.defjvp(lambda x, t: (own_forward(*x), x[0] @ x[0] @ t[0]))


@jax.custom_vjp
def own_backward(x):
  return x @ x


own_backward.defvjp(lambda x: (x @ x, x), lambda x, g: (x @ x @ x @ g,))


own_vmap = jax.custom_batching.custom_vmap(square)
own_vmap.def_vmap(lambda size, batched, x: (x @ x, True))


def linear(x):
  def transpose(residual, cotangent):
    return residual.T @ cotangent

  return jax.custom_derivatives.linear_call(jnp.matmul, transpose, x, x)


def in_place(x):
  ref = jax.new_ref(jnp.zeros_like(x))
  ref[...] = x @ x
  return jax.freeze(ref)


@pytest.mark.parametrize(
  "function",
  [
    jax.lax.composite(square, name="house.square"),
    in_place,
    linear,
    own_vmap,
    jax.jit(jax.jit(square)),
    jax.checkpoint(square),
    nnx.jit(square),
    own_forward,
    own_backward,
    scanned(1, jax.jit(jax.checkpoint(own_forward))),
  ],
)
def test_calls_are_entered(function):
  assert work(function, SQUARE) == matmuls(1)


def test_gradients_of_calls():
  def macs(function):
    gradient = jax.grad(lambda x: function(x).sum())
    return count(gradient, SQUARE).macs / 64

  assert macs(square) == 3
  # A checkpoint computes its forward pass again.
  assert macs(jax.checkpoint(lambda x: jnp.sin(square(x)))) == 4
  assert macs(own_forward) == 1 + 2
  assert macs(own_backward) == 1 + 3


def test_what_is_not_known_is_listed_with_its_calls():
  def turn(x):
    return called_back(x) @ x

  found = count(scanned(3, turn), SQUARE)
  assert (found.macs, found.flops) == matmuls(3)
  assert found.unknown == {"pure_callback": 3}
  assert (found + found).unknown == {"pure_callback": 6}
  assert not count(scanned(0, turn), SQUARE).unknown


def macs(function, *args, **kwargs):
  return work(function, *args, **kwargs)[0]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_nested_scans_multiply(lengths):
  loop = square
  for length in lengths:
    loop = scanned(length, loop)
  assert work(loop, SQUARE) == matmuls(math.prod(lengths))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_nested_scans_inside_vmap_and_grad(outer, inner, batch):
  loop = jax.vmap(scanned(outer, scanned(inner)))
  times = outer * inner * batch
  assert macs(loop, array(batch, 4, 4)) == 64 * times
  gradient = jax.grad(lambda x: loop(x).sum())
  assert macs(gradient, array(batch, 4, 4)) == 3 * 64 * times


def test_shards_run_on_each_device():
  mesh = jax.sharding.AbstractMesh(
    (4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2
  )

  def shard(x, w):
    return jax.lax.psum(x @ w, "model")

  split = jax.shard_map(
    shard,
    mesh=mesh,
    in_specs=(PartitionSpec("data", "model"), PartitionSpec("model")),
    out_specs=PartitionSpec("data"),
  )
  whole = 16 * 8 * 6
  # Both halves of each sum are read.
  assert work(split, array(16, 8), array(8, 6)) == (
    whole,
    2 * whole + 2 * 16 * 6,
  )
  # What is not split is done by each device again.
  copies = jax.shard_map(
    square, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec()
  )
  assert macs(copies, SQUARE) == 8 * 64
  assert macs(scanned(3, copies), SQUARE) == 24 * 64


def test_shards_over_some_axes_run_once_for_each_of_those():
  mesh = jax.sharding.AbstractMesh(
    (4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2
  )
  split = jax.shard_map(
    square,
    mesh=mesh,
    in_specs=PartitionSpec(),
    out_specs=PartitionSpec(),
    axis_names={"data"},
  )
  assert macs(split, SQUARE) == 4 * 64


def kernel(body, estimate):
  return pl.pallas_call(
    body, out_shape=SQUARE, cost_estimate=estimate, name="fast_kernel"
  )


def multiplying(x, out):
  out[...] = x[...] @ x[...]


def adding(x, out):
  out[...] = x[...] + x[...]


def test_kernel_costs_its_estimate():
  estimate = pl.CostEstimate(flops=130, transcendentals=0, bytes_accessed=200)
  found = count(scanned(3, kernel(multiplying, estimate)), SQUARE)
  assert (found.macs, found.flops) == (3 * 65, 3 * 130)
  assert (found.bytes_read, found.bytes_written) == (3 * 136, 3 * 64)
  # No product in it, no MACs.
  assert work(kernel(adding, estimate), SQUARE) == (0, 130)


def test_kernel_without_estimate_is_refused_by_name():
  with pytest.raises(ValueError, match=r"'fast_kernel'.*cost_estimate"):
    count(kernel(adding, None), SQUARE)


def test_solve_costs_what_it_runs():
  # A factorization, and two triangular solves; gathering is free.
  found = work(jnp.linalg.solve, SQUARE, array(4, 3))
  assert found[0] == 0
  assert 2 * 4**3 // 3 + 2 * 4 * 4 * 3 <= found[1] < 200


def test_gradient_with_recomputation_of_chosen_parts():
  def block(x):
    return jnp.sin(jnp.sin(x @ x) @ x)

  policies = jax.checkpoint_policies
  saved = jax.checkpoint(block, policy=policies.dots_saveable)
  remade = jax.checkpoint(block, policy=policies.nothing_saveable)

  def gradient(function):
    return macs(jax.grad(lambda x: function(x).sum()), SQUARE) // 64

  assert gradient(block) == gradient(saved) == 6
  assert gradient(remade) == 8


def test_of_equal_branches_the_one_that_moves_more_is_taken():
  def choose(index, x):
    return jax.lax.switch(
      index, [lambda x: x + 1, lambda x: x.T + 1, lambda x: x + 2], x
    )

  found = count(choose, array(dtype=jnp.int32), SQUARE)
  turned = count(lambda x: x.T + 1, SQUARE)
  index = 2 * 4  # Is clamped
  assert turned.bytes_read <= found.bytes_read <= turned.bytes_read + index
  assert found.bytes_written >= turned.bytes_written


def test_what_several_branches_do_not_count_is_listed_once():
  def choose(index, x):
    twice = lambda x: called_back(called_back(x))  # noqa: E731
    return jax.lax.switch(index, [twice, called_back, square], x)

  found = count(choose, array(dtype=jnp.int32), SQUARE)
  assert found.unknown == {"pure_callback": 2}
