"""What single primitives cost, against closed forms and naive algorithms."""

import math

import jax
import jax.numpy as jnp
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import lax

from effarch.infrastructure.cost import arithmetic, count

SIZES = st.integers(1, 9)
IMAGE = ("NHWC", "HWIO", "NHWC")


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def work(function, *args):
  """MACs and FLOPs of what the counter knows entirely."""
  found = count(function, *args)
  assert not found.unknown
  return found.macs, found.flops


@given(
  batch=st.integers(1, 3),
  size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
  kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
  strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
  channels=st.tuples(SIZES, SIZES),
  padding=st.sampled_from(["SAME", "VALID"]),
)
def test_transposed_convolution(
  batch, size, kernel, strides, channels, padding
):
  # Each input's pixel is multiplied with the whole kernel.
  inputs, outputs = channels
  assume(all(k >= s for k, s in zip(kernel, strides, strict=True)))
  macs = batch * math.prod(size) * math.prod(kernel) * inputs * outputs
  found = work(
    lambda x, w: lax.conv_transpose(
      x, w, strides, padding, dimension_numbers=IMAGE
    ),
    array(batch, *size, inputs),
    array(*kernel, inputs, outputs),
  )
  assert found == (macs, 2 * macs)


@given(
  size=st.integers(1, 9),
  kernel=st.integers(1, 5),
  stride=st.integers(1, 3),
  dilation=st.integers(1, 2),
  groups=st.integers(1, 3),
  padding=st.sampled_from(["SAME", "VALID"]),
  layout=st.sampled_from([IMAGE, ("NCHW", "OIHW", "NCHW")]),
)
def test_either_gradient_of_a_convolution_costs_what_it_costs(
  size, kernel, stride, dilation, groups, padding, layout
):
  # An image smaller than the kernel makes no difference.
  assume(padding == "SAME" or size > dilation * (kernel - 1))

  def total(x, w):
    return lax.conv_general_dilated(
      x,
      w,
      (stride, stride),
      padding,
      rhs_dilation=(dilation, dilation),
      dimension_numbers=layout,
      feature_group_count=groups,
    ).sum()

  x, w = (2, size, size, 2 * groups), (kernel, kernel, 2, 3 * groups)
  if layout != IMAGE:
    x, w = (x[0], x[3], *x[1:3]), (w[3], w[2], *w[:2])
  forward, _ = work(total, array(*x), array(*w))
  for argument in (0, 1):
    both = work(jax.grad(total, argument), array(*x), array(*w))
    assert both[0] == 2 * forward
  gradients = jax.grad(total, (0, 1))
  assert work(gradients, array(*x), array(*w))[0] == 3 * forward


@given(
  st.integers(1, 5),
  st.integers(1, 4),
  st.integers(1, 3),
  st.sampled_from(["SAME", "VALID"]),
)
def test_either_gradient_of_a_transposed_convolution_too(
  size, kernel, stride, padding
):
  assume(kernel >= stride)

  def total(x, w):
    made = lax.conv_transpose(
      x, w, (stride, stride), padding, dimension_numbers=IMAGE
    )
    return made.sum()

  arrays = array(2, size, size, 3), array(kernel, kernel, 3, 4)
  forward, _ = work(total, *arrays)
  assert work(jax.grad(total, (0, 1)), *arrays)[0] == 3 * forward


@given(
  st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(4, 7)
)
def test_groups_of_the_batch_share_it_out(groups, each, channels, size):
  # Output feature g sums over the pixels of its own part of the batch alone.
  macs = each * groups * size**2 * 9 * channels
  found = work(
    lambda x, w: lax.conv_general_dilated(
      x, w, (1, 1), "SAME", dimension_numbers=IMAGE, batch_group_count=groups
    ),
    array(groups * each, size, size, channels),
    array(3, 3, channels, groups),
  )
  assert found == (macs, 2 * macs)


@given(SIZES, SIZES, SIZES, st.integers(1, 4))
def test_product_with_a_matrix_for_each_group_of_rows(
  rows, inner, outer, groups
):
  sizes = array(groups, dtype=jnp.int32)
  arrays = array(rows, inner), array(groups, inner, outer), sizes
  macs = rows * inner * outer
  assert work(lax.ragged_dot, *arrays) == (macs, 2 * macs)
  # The gradient of the matrices sums over each group's rows alone.
  numbers = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), (0,), ())
  found = work(
    lambda x, y, sizes: lax.ragged_dot_general(x, y, sizes, numbers),
    *(array(rows, inner), array(rows, outer), sizes),
  )
  assert found == (macs, 2 * macs)


@given(SIZES, SIZES, SIZES)
def test_complex_numbers_cost_what_their_parts_do(i, j, k):
  # (a + bi)(c + di): four products; as a MAC four sums too.
  x, y = (array(*s, dtype=jnp.complex64) for s in ((i, j), (j, k)))
  assert work(jnp.matmul, x, y) == (4 * i * j * k, 8 * i * j * k)
  assert work(lambda x: x * x, x) == (0, 6 * i * j)
  assert work(lambda x: x + x, x) == (0, 2 * i * j)
  assert work(lambda x: x.sum(), x) == (0, 2 * i * j)
  assert work(lambda x: x.real, x) == (0, 0)


@given(st.integers(1, 3), st.integers(2, 16), st.integers(1, 4))
def test_fourier_transform(batch, points, other):
  flops = 5 * batch * points * math.log2(points)
  real, half = array(batch, points), points // 2 + 1
  spectrum = array(batch, points, dtype=jnp.complex64)
  assert work(jnp.fft.fft, spectrum) == (0, round(flops))
  assert work(jnp.fft.rfft, real) == (0, round(flops / 2))
  back = work(
    lambda x: lax.fft(x, lax.FftType.IRFFT, (points,)),
    array(batch, half, dtype=jnp.complex64),
  )
  assert back == (0, round(flops / 2))
  plane = array(batch, points, other, dtype=jnp.complex64)
  both = 5 * batch * points * other * math.log2(points * other)
  transform = lambda x: lax.fft(x, lax.FftType.FFT, (points, other))  # noqa: E731
  assert work(transform, plane) == (0, round(both))


@given(SIZES, st.integers(1, 40), st.integers(1, 40))
def test_sorting_compares(rows, columns, k):
  def comparisons(number):
    return math.ceil(math.log2(number))

  x = array(rows, columns)
  size = rows * columns
  assert work(lambda x: lax.sort(x), x) == (0, size * comparisons(columns))
  by_column = work(lambda x: lax.sort(x, dimension=0), x)
  assert by_column == (0, size * comparisons(rows))
  # Values that are carried along with the keys are only moved.
  pair = work(lambda x: lax.sort((x, x), num_keys=1), x)
  assert pair == (0, size * comparisons(columns))
  assume(k <= columns)
  top = work(lambda x: lax.top_k(x, k), x)
  assert top == (0, size * max(1, comparisons(k)))


@given(st.lists(SIZES, min_size=1, max_size=3))
def test_cumulative_sums_and_searches_read_each_element(shape):
  x, size = array(*shape), math.prod(shape)
  for function in (
    lax.cumsum,
    lax.cumprod,
    lax.cummax,
    lax.cumlogsumexp,
    lambda x: lax.argmax(x, 0, jnp.int32),
    lambda x: lax.reduce(x, 0.0, lambda a, b: a - b, (0,)),
  ):
    assert work(function, x) == (0, size)


@pytest.mark.parametrize("step", [1, 2])
def test_window_sums_read_each_window(step):
  found = work(
    lambda x: lax.reduce_window(x, 0.0, lax.add, (3,), (step,), "VALID"),
    array(9),
  )
  assert found == (0, 3 * len(range(0, 7, step)))


def lu_flops(m, n):
  """A division for each row below the pivot, then a product and a sum."""
  rest = [(m - k - 1, n - k - 1) for k in range(min(m, n))]
  return sum(below + 2 * below * right for below, right in rest)


def cholesky_flops(n):
  return sum(1 + below + below * (below + 1) for below in range(n))


def householder_flops(m, n):
  """Each reflector: its product with the rest, and the rank-one change."""
  return sum(4 * (m - k) * (n - k) for k in range(min(m, n)))


@pytest.mark.parametrize(
  ("function", "shapes", "naive"),
  [
    (lax.linalg.lu, [(90, 90)], lu_flops(90, 90)),
    (lax.linalg.lu, [(120, 60)], lu_flops(120, 60)),
    (lax.linalg.lu, [(60, 120)], lu_flops(60, 120)),
    (
      lambda x: lax.linalg.cholesky(x, symmetrize_input=False),
      [(90, 90)],
      cholesky_flops(90),
    ),
    (jnp.linalg.qr, [(120, 60)], 2 * householder_flops(120, 60)),
    (
      lambda x: jnp.linalg.qr(x, mode="r"),
      [(90, 90)],
      2 * householder_flops(90, 90),
    ),
    (
      lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True),
      [(90, 90), (90, 7)],
      7 * 90**2,
    ),
    (lax.linalg.tridiagonal, [(90, 90)], 4 * 90**3 / 3),
  ],
)
def test_linear_algebra_is_near_the_naive_algorithm(function, shapes, naive):
  plain = work(function, *(array(*shape) for shape in shapes))
  assert plain[0] == 0
  assert plain[1] == pytest.approx(naive, rel=0.06)
  batch = work(function, *(array(5, *shape) for shape in shapes))
  assert batch[1] == pytest.approx(5 * plain[1], rel=0.06)


@pytest.mark.parametrize(
  ("function", "cubes"),
  [
    (lax.linalg.eigh, 9),
    (lambda x: lax.linalg.eig(x), 25),
    (
      lambda x: lax.linalg.eig(
        x, compute_left_eigenvectors=False, compute_right_eigenvectors=False
      ),
      10,
    ),
    (lax.linalg.svd, 26),
    (lambda x: lax.linalg.svd(x, compute_uv=False), 4),
    (lax.linalg.hessenberg, 10 / 3),
    (lax.linalg.schur, 25),
  ],
)
def test_decompositions_take_so_many_cubes(function, cubes):
  one, twice = (work(function, array(n, n))[1] for n in (30, 60))
  assert one == pytest.approx(cubes * 30**3, rel=0.01)
  assert twice == pytest.approx(8 * one, rel=0.01)


def test_tall_singular_value_decomposition():
  found = work(lax.linalg.svd, array(2, 50, 10))
  assert found[1] == 2 * (6 * 50 * 10**2 + 20 * 10**3)
  turned = work(lax.linalg.svd, array(2, 10, 50))
  assert turned == found


def test_scatters_cost_their_updates():
  def dimensions():
    return lax.ScatterDimensionNumbers((1,), (0,), (0,))

  place = jnp.arange(2)[:, None]
  for scatter, flops in (
    (lax.scatter_add, 8),
    (lax.scatter_mul, 8),
    (lax.scatter_max, 8),
    (lax.scatter, 0),
  ):
    found = work(
      lambda x, y, scatter=scatter: scatter(x, place, y, dimensions()),
      array(5, 4),
      array(2, 4),
    )
    assert found == (0, flops)


def test_no_primitive_is_in_two_groups():
  groups = [
    arithmetic.ELEMENTWISE,
    arithmetic.READING,
    arithmetic.VIEWS,
    arithmetic.CASTING,
    arithmetic.MOVING,
    arithmetic.PRODUCTS,
  ]
  assert len(frozenset.union(*groups)) == sum(map(len, groups))
