"""Each primitive by its own name: a group that loses one is found here."""

# ruff: noqa: SIM905

import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax
from jax.scipy import linalg
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from effarch.infrastructure.cost import count

UNARY = """
abs acos acosh asin asinh atan atanh bessel_i0e bessel_i1e cbrt ceil cos cosh
digamma erf erf_inv erfc exp exp2 expm1 floor lgamma log log1p logistic neg
round rsqrt sign sin sinh sqrt square tan tanh
""".split()
BINARY = """
add atan2 div igamma igamma_grad_a igammac max min mul nextafter polygamma pow
rem sub zeta
""".split()
FREE = """
bitwise_not clz population_count is_finite real conj eq ne lt gt le ge
bitwise_and bitwise_or bitwise_xor shift_left shift_right_logical
shift_right_arithmetic
""".split()
X = jax.ShapeDtypeStruct((3, 4), jnp.float32)
WHOLE = jax.ShapeDtypeStruct((3, 4), jnp.int32)
SPECTRUM = jax.ShapeDtypeStruct((3, 4), jnp.complex64)


def flops(function, *args):
  """FLOPs of what the counter knows entirely, and does not multiply."""
  found = count(function, *args)
  assert not found.unknown
  assert not found.macs
  return found.flops


@pytest.mark.parametrize("name", UNARY)
def test_one_flop_for_each_element(name):
  assert flops(getattr(lax, name), X) == 12


@pytest.mark.parametrize("name", BINARY)
def test_one_flop_for_each_pair(name):
  assert flops(getattr(lax, name), X, X) == 12


def test_other_arithmetic():
  assert flops(lambda x: lax.integer_pow(x, 3), X) == 12
  assert flops(lambda x, y: lax.mulhi(x, y), WHOLE, WHOLE) == 12
  # What is written counts, not the first operand.
  assert flops(lambda x: lax.clamp(0.0, x, 1.0), X) == 12
  assert flops(lambda a, b, x: lax.betainc(a, b, x), X, X, X) == 12


@pytest.mark.parametrize("name", FREE)
def test_comparing_and_bits_are_free(name):
  function = getattr(lax, name)
  kind = {"real": SPECTRUM, "conj": SPECTRUM, "is_finite": X}.get(name, WHOLE)
  try:
    assert flops(function, kind) == 0
  except TypeError:
    assert flops(function, kind, kind) == 0


@pytest.mark.parametrize(
  ("function", "cost"),
  [
    (lambda z: z * z, 6),
    (lambda z: z / z, 6),
    (lambda z: z - z, 2),
    (jnp.exp, 2),
    (jnp.abs, 2),  # Of complex numbers, though its result is real.
  ],
)
def test_complex_arithmetic(function, cost):
  assert flops(function, SPECTRUM) == cost * 12


@pytest.mark.parametrize(
  "function",
  [
    jnp.sum,
    jnp.prod,
    jnp.max,
    jnp.min,
    lambda x: lax.argmax(x, 0, jnp.int32),
    lambda x: lax.argmin(x, 1, jnp.int32),
    lambda x: lax.cummin(x),
    lambda x: lax.cummax(x, 1),
    lambda x: lax.cumprod(x),
  ],
)
def test_reductions_read_each_element(function):
  assert flops(function, X) == 12


@pytest.mark.parametrize("function", [jnp.all, jnp.any])
def test_logical_reductions_read_each_element(function):
  assert flops(function, jax.ShapeDtypeStruct((3, 4), jnp.bool_)) == 12


def test_bitwise_reduction_reads_each_element():
  whole = lambda x: lax.reduce(x, 0, lax.bitwise_xor, (0, 1))  # noqa: E731
  assert flops(whole, WHOLE) == 12


@pytest.mark.parametrize(
  ("collective", "cost"),
  [
    (lambda x: lax.psum(x, "d"), 12),
    (lambda x: lax.pmax(x, "d"), 12),
    (lambda x: lax.pmin(x, "d"), 12),
    (lambda x: lax.psum_scatter(x, "d", tiled=True, scatter_dimension=1), 12),
    (lambda x: lax.all_gather(x, "d"), 0),
    (lambda x: lax.all_to_all(x, "d", 1, 1, tiled=True), 0),
    (lambda x: lax.ppermute(x, "d", [(0, 1), (1, 0)]), 0),
  ],
)
def test_collectives_on_both_devices(collective, cost):
  mesh = AbstractMesh((2,), ("d",), axis_types=(AxisType.Auto,))
  spec = PartitionSpec("d")
  function = jax.shard_map(
    collective,
    mesh=mesh,
    in_specs=spec,
    out_specs=spec,
    check_vma=False,
  )
  whole = jax.ShapeDtypeStruct((6, 4), jnp.float32)
  assert flops(function, whole) == 2 * cost


@pytest.mark.parametrize(
  "pool", [lax.max, lax.min, lax.add], ids=["max", "min", "add"]
)
def test_windows(pool):
  start = {lax.max: -jnp.inf, lax.min: jnp.inf, lax.add: 0.0}[pool]
  function = lambda x: lax.reduce_window(  # noqa: E731
    x, start, pool, (2, 2), (1, 1), "VALID"
  )
  assert flops(function, X) == 2 * 3 * 4


def test_pool_in_forward_mode():
  def tangent(x):
    pool = lambda x: nnx.max_pool(x, (2, 2))  # noqa: E731
    return jax.jvp(pool, (x,), (x,))[1]

  # The tangent is gathered from where the largest was found.
  x = jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)
  assert flops(tangent, x) == 9 * 4


@pytest.mark.parametrize(
  ("scatter", "cost"),
  [
    (lax.scatter, 0),
    (lax.scatter_add, 4),
    (lax.scatter_sub, 4),
    (lax.scatter_mul, 4),
    (lax.scatter_min, 4),
    (lax.scatter_max, 4),
  ],
)
def test_scatters(scatter, cost):
  numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
  places = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  row = jax.ShapeDtypeStruct((1, 4), jnp.float32)
  function = lambda x, i, y: scatter(x, i, y, numbers)  # noqa: E731
  assert flops(function, X, places, row) == cost


def test_adding_to_a_reference():
  def function(x):
    ref = jax.new_ref(x)
    jax.ref.addupdate(ref, ..., x)
    return jax.freeze(ref)

  assert flops(function, X) == 12


def test_largest_by_an_approximation():
  assert flops(lambda x: lax.approx_max_k(x, 3), X) == 12 * 2


def square(n):
  return jax.ShapeDtypeStruct((n, n), jnp.float32)


@pytest.mark.parametrize(
  ("function", "shape", "cost"),
  [
    (
      lambda x: lax.linalg.eig(x, compute_right_eigenvectors=False),
      (6, 6),
      25 * 6**3,
    ),
    (
      lambda x: lax.linalg.eig(x, compute_left_eigenvectors=False),
      (6, 6),
      25 * 6**3,
    ),
    # LAPACK's count of orgqr for m x n and k reflectors, and of geqrf.
    (
      lambda x: lax.linalg.householder_product(x, x[0, :4]),
      (9, 6),
      4 * 9 * 6 * 4 - 2 * (9 + 6) * 4**2 + 4 * 4**3 // 3,
    ),
    (
      # Q is made too, all nine columns of it.
      lambda x: linalg.qr(x, pivoting=True, mode="r"),
      (9, 6),
      (2 * 9 * 6**2 - 2 * 6**3 // 3)
      + (4 * 9 * 9 * 6 - 2 * (9 + 9) * 6**2 + 4 * 6**3 // 3),
    ),
  ],
)
def test_factorizations(function, shape, cost):
  found = flops(function, jax.ShapeDtypeStruct(shape, jnp.float32))
  # A few masks and signs come on top.
  assert cost <= found <= cost + 6 * math.prod(shape)


def test_tridiagonal_system_for_each_right_side():
  diagonal = jax.ShapeDtypeStruct((10,), jnp.float32)
  sides = jax.ShapeDtypeStruct((10, 3), jnp.float32)
  found = flops(
    lax.linalg.tridiagonal_solve, diagonal, diagonal, diagonal, sides
  )
  assert found == 8 * 10 * 3


def test_forward_convolution_with_the_batch_last():
  # No gradient of a kernel, though its dimensions are ordered like one.
  found = count(
    lambda x, w: lax.conv_general_dilated(
      x, w, (1, 1), "SAME", dimension_numbers=("CHWN", "IHWO", "CHWN")
    ),
    jax.ShapeDtypeStruct((5, 2, 2, 7), jnp.float32),
    jax.ShapeDtypeStruct((5, 3, 3, 4), jnp.float32),
  )
  assert found.macs == 7 * 2 * 2 * 9 * 5 * 4
