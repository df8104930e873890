"""Counts against closed forms, over shapes that hypothesis draws."""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.cost import count

SIZES = st.integers(1, 9)
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


@given(SIZES, SIZES, SIZES, SIZES, SIZES)
def test_product_over_batch_axes(a, b, i, j, k):
  macs = a * b * i * j * k
  left, right = array(a, i, b, j), array(k, b, j, a)
  found = work(lambda x, y: jnp.einsum("aibj,kbja->abik", x, y), left, right)
  assert found == (macs, 2 * macs)


@given(SIZES, SIZES, SIZES, SIZES)
def test_product_that_contracts_two_axes(a, i, j, k):
  macs = a * i * j * k
  found = work(
    lambda x, y: jnp.einsum("aij,ijk->ak", x, y), array(a, i, j), array(i, j, k)
  )
  assert found == (macs, 2 * macs)


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
  found = work(
    convolve,
    array(batch, *size, inputs * groups),
    array(*kernel, inputs, outputs * groups),
  )
  assert found == (macs, 2 * macs)


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
  assert work(lambda x: jnp.tanh(x) * x + 1, x) == (0, 3 * size)
  assert work(lambda x: x.sum(0), x) == (0, size)
  assert work(lambda x: jax.lax.cumsum(x), x) == (0, size)
  # A broadcast operand costs by what is written.
  row = array(shape[-1])
  assert work(lambda x, y: x + y, x, row) == (0, size)


@given(st.integers(1, 3), st.integers(4, 9), st.integers(2, 3), SIZES)
def test_pool_reads_each_window(stride, size, window, channels):
  windows = (window, window)
  found = work(
    lambda x: nnx.max_pool(x, windows, strides=(stride, stride)),
    array(1, size, size, channels),
  )
  pixels = (size - window) // stride + 1
  assert found == (0, pixels**2 * window**2 * channels)


def test_gradient_of_a_pool_selects_and_adds():
  def total(x):
    return nnx.max_pool(x, (2, 2), strides=(2, 2)).sum()

  # Forward 32 reads and 8 summed; backward 32 compared and 8 added.
  assert work(jax.grad(total), array(1, 4, 4, 2)) == (0, 80)


def test_scatter_costs_its_updates():
  rows, place = array(5, 4), jnp.arange(2)[:, None]

  def dimensions():
    return jax.lax.ScatterDimensionNumbers((1,), (0,), (0,))

  for scatter in (jax.lax.scatter_add, jax.lax.scatter_mul):
    found = work(
      lambda x, y, scatter=scatter: scatter(x, place, y, dimensions()),
      rows,
      array(2, 4),
    )
    assert found == (0, 8)
  free = work(
    lambda x, y: jax.lax.scatter(x, place, y, dimensions()), rows, array(2, 4)
  )
  assert free == (0, 0)


def test_moving_and_casting_are_free():
  def shuffle(x):
    x = jnp.concatenate([x.T, x]).astype(jnp.bfloat16)
    return jnp.pad(x[::-1], 1), jnp.stack([x, x]) > 0

  assert work(shuffle, SQUARE) == (0, 0)


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
  assert work(square, array(side, side)) == (side**3, 2 * side**3)
