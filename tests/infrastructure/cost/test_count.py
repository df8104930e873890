"""Counts against closed forms, over shapes that hypothesis draws."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.cost import Count, count

SIZES = st.integers(1, 9)
SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)
MATMUL = Count(macs=64, flops=128)  # Of two such squares


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def square(x):
  return x @ x


@given(SIZES, SIZES, SIZES, SIZES, SIZES)
def test_product_over_batch_axes(a, b, i, j, k):
  macs = a * b * i * j * k
  left, right = array(a, i, b, j), array(k, b, j, a)
  found = count(lambda x, y: jnp.einsum("aibj,kbja->abik", x, y), left, right)
  assert found == Count(macs, 2 * macs)


@given(SIZES, SIZES, SIZES, SIZES)
def test_product_that_contracts_two_axes(a, i, j, k):
  macs = a * i * j * k
  found = count(
    lambda x, y: jnp.einsum("aij,ijk->ak", x, y), array(a, i, j), array(i, j, k)
  )
  assert found == Count(macs, 2 * macs)


@given(
  batch=st.integers(1, 3),
  size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
  kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
  strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
  dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
  groups=st.integers(1, 3),
  inputs=st.integers(1, 3),
  outputs=st.integers(1, 3),
  padding=st.sampled_from(["SAME", "VALID"]),
)
def test_convolution(
  batch, size, kernel, strides, dilation, groups, inputs, outputs, padding
):
  def convolve(x, w):
    return jax.lax.conv_general_dilated(
      x,
      w,
      strides,
      padding,
      rhs_dilation=dilation,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=groups,
    )

  pixels = 1
  for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
    reach = d * (k - 1) + 1
    pixels *= math.ceil((n if padding == "SAME" else n - reach + 1) / s)
  # Each of a group's outputs sums over the inputs of that group alone.
  macs = batch * pixels * math.prod(kernel) * inputs * outputs * groups
  found = count(
    convolve,
    array(batch, *size, inputs * groups),
    array(*kernel, inputs, outputs * groups),
  )
  assert found == Count(macs, 2 * macs)


@given(st.integers(1, 3), st.integers(3, 7), SIZES)
def test_depthwise_convolution_and_its_kernel_gradient(batch, size, channels):
  def total(w, x):
    return jax.lax.conv_general_dilated(
      x,
      w,
      (1, 1),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=channels,
    ).sum()

  arrays = array(3, 3, 1, channels), array(batch, size, size, channels)
  macs = batch * size * size * 9 * channels
  assert count(total, *arrays).macs == macs
  # The gradient sums the same products over the pixels instead, after the
  # forward pass, and the input gets none.
  assert count(jax.grad(total), *arrays).macs == 2 * macs


@given(st.lists(SIZES, min_size=1, max_size=4))
def test_elementwise_writes_and_reductions_read(shape):
  x, size = array(*shape), math.prod(shape)
  assert count(lambda x: jnp.tanh(x) * x + 1, x) == Count(flops=3 * size)
  assert count(lambda x: x.sum(0), x) == Count(flops=size)
  assert count(lambda x: jax.lax.cumsum(x), x) == Count(flops=size)
  # A broadcast operand costs by what is written.
  row = array(shape[-1])
  assert count(lambda x, y: x + y, x, row) == Count(flops=size)


@given(st.integers(1, 3), st.integers(4, 9), st.integers(2, 3), SIZES)
def test_pool_reads_each_window(stride, size, window, channels):
  windows = (window, window)
  found = count(
    lambda x: nnx.max_pool(x, windows, strides=(stride, stride)),
    array(1, size, size, channels),
  )
  pixels = (size - window) // stride + 1
  assert found == Count(flops=pixels**2 * window**2 * channels)


def test_gradient_of_a_pool_selects_and_adds():
  def total(x):
    return nnx.max_pool(x, (2, 2), strides=(2, 2)).sum()

  # Forward 32 reads and 8 summed; backward 32 compared and 8 added.
  assert count(jax.grad(total), array(1, 4, 4, 2)) == Count(flops=80)


def test_scatter_costs_its_updates():
  rows, place = array(5, 4), jnp.arange(2)[:, None]

  def dimensions():
    return jax.lax.ScatterDimensionNumbers((1,), (0,), (0,))

  for scatter in (jax.lax.scatter_add, jax.lax.scatter_mul):
    found = count(
      lambda x, y, scatter=scatter: scatter(x, place, y, dimensions()),
      rows,
      array(2, 4),
    )
    assert found == Count(flops=8)
  free = count(
    lambda x, y: jax.lax.scatter(x, place, y, dimensions()), rows, array(2, 4)
  )
  assert free == Count()


def test_moving_sorting_and_casting_are_free():
  def shuffle(x):
    x = jnp.concatenate([x.T, jnp.sort(x)]).astype(jnp.bfloat16)
    return jnp.pad(x[::-1], 1), jax.lax.top_k(x, 2), jnp.stack([x, x]) > 0

  assert count(shuffle, SQUARE) == Count()


def scanned(length, body=square):
  def loop(x):
    return jax.lax.scan(lambda c, _: (body(c), None), x, length=length)[0]

  return loop


def test_scan_multiplies_by_its_length():
  assert count(scanned(8), SQUARE) == MATMUL * 8
  assert count(scanned(0), SQUARE) == Count()
  assert count(scanned(3, scanned(8)), SQUARE) == MATMUL * 24


def test_scan_inside_vmap_and_grad():
  assert count(jax.vmap(scanned(8)), array(5, 4, 4)) == MATMUL * 40
  # Backward, both factors of each product get a gradient.
  gradient = jax.grad(lambda x: scanned(8)(x).sum())
  assert count(gradient, SQUARE).macs == 3 * 8 * MATMUL.macs


def test_fori_loop_with_constant_bounds_is_a_scan():
  def loop(x):
    return jax.lax.fori_loop(2, 7, lambda _, c: c @ c, x)

  assert count(loop, SQUARE).macs == 5 * MATMUL.macs


def test_loop_without_known_length_is_refused():
  def until(x):
    return jax.lax.while_loop(lambda c: c.sum() < 3, square, x)

  with pytest.raises(ValueError, match=r"while_loop.*lax\.scan.*constant"):
    count(scanned(2, jax.jit(until)), SQUARE)
  with pytest.raises(ValueError, match="while_loop"):
    count(
      lambda n, x: jax.lax.fori_loop(0, n, lambda _, c: c @ c, x), 3, SQUARE
    )


def test_cond_costs_its_costliest_branch():
  branches = [lambda x: x + 1, lambda x: x @ x @ x, lambda x: x @ x]

  def choose(index, x):
    return jax.lax.switch(index, branches, x)

  found = count(choose, array(dtype=jnp.int32), SQUARE)
  assert found == MATMUL * 2 + Count(flops=1)  # The index is clamped


def test_cond_lists_what_any_branch_does_not_count():
  def choose(index, x):
    branches = lambda x: jnp.fft.fft(jnp.fft.fft(x)).real, square
    return jax.lax.cond(index, *branches, x)

  found = count(choose, array(dtype=jnp.bool_), SQUARE)
  assert found == Count(64, 128, {"fft": 2})


@jax.custom_jvp
def own_forward(x):
  return x @ x


own_forward.defjvp(lambda x, t: (own_forward(*x), x[0] @ x[0] @ t[0]))


@jax.custom_vjp
def own_backward(x):
  return x @ x


own_backward.defvjp(lambda x: (x @ x, x), lambda x, g: (x @ x @ x @ g,))


@pytest.mark.parametrize(
  "function",
  [
    jax.jit(jax.jit(square)),
    jax.checkpoint(square),
    nnx.jit(square),
    own_forward,
    own_backward,
    scanned(1, jax.jit(jax.checkpoint(own_forward))),
  ],
)
def test_calls_are_entered(function):
  assert count(function, SQUARE) == MATMUL


def test_gradients_of_calls():
  def macs(function):
    gradient = jax.grad(lambda x: function(x).sum())
    return count(gradient, SQUARE).macs / MATMUL.macs

  assert macs(square) == 3
  # A checkpoint computes its forward pass again.
  assert macs(jax.checkpoint(lambda x: jnp.sin(square(x)))) == 4
  assert macs(own_forward) == 1 + 2
  assert macs(own_backward) == 1 + 3


def test_what_is_not_known_is_listed_with_its_calls():
  def turn(x):
    return jnp.fft.fft(x).real @ x

  found = count(scanned(3, turn), SQUARE)
  assert found == Count(3 * 64, 3 * 128, {"fft": 3})
  assert (found + found).unknown == {"fft": 6}


@given(st.integers(1, 5), st.lists(SIZES, min_size=3, max_size=5))
def test_training_is_three_forwards_less_the_first_input_gradient(b, widths):
  pairs = list(itertools.pairwise(widths))

  def loss(weights, x):
    for weight in weights:
      x = nnx.relu(x @ weight)
    return x.sum()

  arrays = [array(*pair) for pair in pairs], array(b, widths[0])
  forward = b * sum(i * o for i, o in pairs)
  first = b * widths[0] * widths[1]
  assert count(loss, *arrays).macs == forward
  assert count(jax.grad(loss), *arrays).macs == 3 * forward - first


def test_shapes_alone_are_enough():
  side = 2**20  # Each matrix would be 4 TiB
  found = count(square, array(side, side))
  assert found == Count(side**3, 2 * side**3)
