"""Bytes moved and kept, against closed forms and JAX's own list."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.ad_checkpoint import print_saved_residuals
from jax.experimental import pallas as pl

from effarch.infrastructure.cost import count, measure

SIZES = st.integers(1, 9)


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def moved(function, *args):
  """Numbers of 32 bits that are read and written."""
  found = count(function, *args)
  assert found.bytes_read % 4 == found.bytes_written % 4 == 0
  return found.bytes_read // 4, found.bytes_written // 4


@given(SIZES, SIZES, SIZES)
def test_product_reads_its_factors_and_writes_itself(i, j, k):
  x, y = array(i, j), array(j, k)
  assert moved(jnp.matmul, x, y) == (i * j + j * k, i * k)
  half = count(
    jnp.matmul, *(array(*a.shape, dtype=jnp.bfloat16) for a in (x, y))
  )
  assert half.bytes_read == 2 * (i * j + j * k)
  assert half.bytes_written == 2 * i * k
  assert half.intensity == 2 * i * j * k / (2 * (i * j + j * k + i * k))


@given(st.integers(1, 9))
def test_four_bits_are_half_a_byte(size):
  x = array(size, size, dtype=jnp.int4)
  found = count(lambda x: x.T, x)
  assert found.bytes_read == found.bytes_written == math.ceil(size**2 / 2)


@given(SIZES, SIZES)
def test_elementwise_operations_are_one_pass(i, j):
  x, row = array(i, j), array(j)
  size = i * j
  assert moved(lambda x: jnp.tanh(jnp.exp(x) * x + 1), x) == (size, size)
  # What is broadcast is read as it is.
  assert moved(lambda x, row: (x + row) * row, x, row) == (size + j, size)
  # Casts are part of the pass; the result is what is written.
  small = count(lambda x: (x + 1).astype(jnp.int8), x)
  assert (small.bytes_read, small.bytes_written) == (4 * size, size)


@given(SIZES, SIZES)
def test_what_others_read_is_written(i, j):
  def normalized(x):
    powers = jnp.exp(x)
    return powers / powers.sum()

  size = i * j
  # The powers are written for the sum; they and it are read again.
  read, written = moved(normalized, array(i, j))
  assert (read, written) == (size + size + size + 1, size + 1 + size)


def test_nothing_moves_for_views():
  def turn(x):
    return jnp.broadcast_to(x.reshape(8, 2)[None], (5, 8, 2)).astype(
      jnp.float32
    )

  assert (
    moved(lambda x: turn(x) @ jnp.ones((2, 3)), array(4, 4))[1] == 5 * 8 * 3
  )
  assert moved(lambda x: x.reshape(2, 8), array(4, 4)) == (0, 0)
  assert moved(lambda x: x.T, array(4, 4)) == (16, 16)


def test_only_what_is_taken_is_read():
  table, places = array(1000, 8), array(3, dtype=jnp.int32)
  rows = lambda table, places: jax.lax.gather(  # noqa: E731
    table,
    places[:, None],
    jax.lax.GatherDimensionNumbers((1,), (0,), (0,)),
    (1, 8),
    mode="clip",
  )
  assert moved(rows, table, places) == (3 * 8 + 3, 3 * 8)
  assert moved(lambda x: x[2:5], table) == (24, 24)


def test_updates_are_done_in_place():
  table = array(1000, 8)

  def scatter(kind):
    numbers = jax.lax.ScatterDimensionNumbers((1,), (0,), (0,))
    return lambda x, y, i: kind(x, i, y, numbers)

  update, places = array(3, 8), array(3, 1, dtype=jnp.int32)
  assert moved(scatter(jax.lax.scatter), table, update, places) == (24 + 3, 24)
  # To add is to read what was there as well.
  added = moved(scatter(jax.lax.scatter_add), table, update, places)
  assert added == (24 + 3 + 24, 24)


def test_slices_and_updates_at_an_index_do_not_touch_the_rest():
  def both(x, y, i):
    taken = jax.lax.dynamic_slice(x, (i, i), (4, 5))
    return jax.lax.dynamic_update_slice(x, taken + y, (i, i))

  index = array(dtype=jnp.int32)
  few, many = (
    moved(both, array(rows, 8), array(4, 5), index) for rows in (10, 1000)
  )
  assert few == many
  # 20 taken and added to, 20 put in; beside that a few indices.
  assert 60 <= few[0] < 90
  assert 60 <= few[1] < 90


@given(st.integers(0, 7))
def test_loop_moves_what_its_body_moves_each_turn(length):
  def loop(w, x):
    return jax.lax.scan(lambda c, w: (c @ w, None), x, w)[0]

  # Each turn reads the carry and one of the stacked matrices.
  found = moved(loop, array(length, 4, 4), array(4, 4))
  assert found == (32 * length, 16 * length)


def test_calls_do_not_part_a_pass():
  inner = jax.jit(lambda x: jnp.exp(x) + 1)
  assert moved(lambda x: jnp.tanh(inner(x * 2)), array(4, 4)) == (16, 16)


def kept_by_jax(function, capsys, *args):
  """Bytes that JAX itself says a gradient keeps, beside its arguments."""
  print_saved_residuals(function, *args)
  total = 0
  for line in capsys.readouterr().out.splitlines():
    kind, shape = re.match(r"(\w+)\[([\d,]*)\]", line).groups()
    sizes = [int(size) for size in shape.split(",") if size]
    width = {"f32": 4, "bool": 1, "i32": 4}[kind]
    if "from the argument" not in line and "constant" not in line:
      total += width * math.prod(sizes)
  return total


def layer(w, x):
  return jnp.tanh(x @ w)


def scanned(w, x):
  return jax.lax.scan(lambda c, _: (layer(w, c), None), x, None, length=5)[0]


@pytest.mark.parametrize(
  "function",
  [
    layer,
    scanned,
    jax.checkpoint(layer),
    jax.checkpoint(scanned),
    lambda w, x: jax.checkpoint(layer)(w, jax.checkpoint(layer)(w, x)),
    lambda w, x: jax.nn.log_softmax(jnp.sin(layer(w, x)) @ w),
    lambda w, x: jax.jit(layer)(w, jnp.exp(x @ w)).reshape(-1)[::-1],
    lambda w, x: jax.vmap(layer, (None, 0))(w, jnp.stack([x @ w, x @ w])),
  ],
)
def test_kept_bytes_are_those_that_jax_lists(function, capsys):
  w, x = jnp.ones((4, 4)), jnp.ones((3, 4))
  expected = kept_by_jax(lambda w: function(w, x).mean(), capsys, w)
  report = measure(
    function, x, variables=w, train=True, loss=lambda out: out.mean()
  )
  assert report.activation_bytes == expected


def test_recomputing_keeps_less_and_reads_more():
  def deep(wrap):
    def function(w, x):
      for _ in range(6):
        x = wrap(lambda w, x: jnp.sin(layer(w, x)))(w, x)
      return x

    return measure(
      function, jnp.ones((3, 4)), variables=jnp.ones((4, 4)), train=True
    )

  plain, remade = deep(lambda f: f), deep(jax.checkpoint)
  # Between the six there are five results; the first one's input is given.
  assert remade.activation_bytes == 5 * 3 * 4 * 4 < plain.activation_bytes
  assert remade.macs == plain.macs + 6 * 3 * 4 * 4
  assert remade.bytes_read > plain.bytes_read


def test_no_backward_pass_keeps_nothing():
  report = measure(layer, jnp.ones((3, 4)), variables=jnp.ones((4, 4)))
  assert report.activation_bytes == 0


def test_steps_in_one_loop_keep_what_one_step_keeps():
  def step(w, x):
    gradient = jax.grad(lambda w: jnp.sin(layer(w, x)).sum())(w)
    return w - gradient

  def steps(w, x):
    return jax.lax.fori_loop(0, 7, lambda _, w: step(w, x), w)

  arrays = array(4, 4), array(3, 4)
  one, seven = (count(f, *arrays) for f in (step, steps))
  assert seven.activation_bytes == one.activation_bytes > 0
  assert seven.macs == 7 * one.macs


def test_views_of_views_are_the_same_numbers():
  def function(x):
    flat = (x + 1).reshape(2, 8).reshape(16).reshape(8, 2)
    return flat @ jnp.ones((2, 3)), x

  read, written = moved(function, array(4, 4))
  # x is read, x + 1 written and read again; the ones are no more than one.
  assert (read, written) == (16 + 16, 16 + 8 * 3)


def test_result_that_is_a_view_is_written():
  assert moved(lambda x: (x + 1).reshape(16), array(4, 4)) == (16, 16)


def test_each_module_reads_a_value_for_itself():
  def function(x):
    with jax.named_scope("a"):
      one = jnp.sin(x) * x
    with jax.named_scope("b"):
      two = jnp.cos(x) * x
    return one, two

  rows = measure(function, array(4, 4)).by_module
  assert rows["a"].bytes_read == rows["b"].bytes_read == 64
  assert rows["a"].bytes_written == rows["b"].bytes_written == 64


def test_what_a_loop_reads_is_written_before():
  def function(w, x):
    w = w * 2  # Element-wise, and read in each turn.
    return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=3)[0]

  read, written = moved(function, array(4, 4), array(4, 4))
  assert (read, written) == (16 + 3 * 32, 16 + 3 * 16)


def test_kept_bytes_belong_to_the_module_that_makes_them():
  def function(w, x):
    with jax.named_scope("first"):
      x = jnp.sin(x @ w)
    with jax.named_scope("second"):
      return jnp.exp(x.reshape(-1))

  w, x = jnp.ones((4, 4)), jnp.ones((3, 4))
  rows = measure(function, x, variables=w, train=True).by_module
  # The cosine, and the exponential itself.
  assert rows["first"].activation_bytes == 48
  assert rows["second"].activation_bytes == 48


def test_what_parameters_alone_make_is_not_kept():
  def function(w, x):
    return x @ jnp.tanh(w)

  w, x = jnp.ones((4, 4)), jnp.ones((3, 4))
  report = measure(function, x, variables=w, train=True)
  assert report.activation_bytes == 0


def test_kernel_that_moves_less_than_it_makes():
  kernel = pl.pallas_call(
    lambda x, out: None,
    out_shape=array(4, 4),
    cost_estimate=pl.CostEstimate(
      flops=1, transcendentals=0, bytes_accessed=40
    ),
  )
  found = count(kernel, array(4, 4))
  assert (found.bytes_read, found.bytes_written) == (0, 40)
