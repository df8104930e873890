"""MACs and FLOPs of each primitive: the convention, as one table.

A multiply-accumulate of a matrix product or a convolution is one MAC and two
FLOPs (four MACs if its numbers are complex). Everything else has no MACs:

- arithmetic, element by element: a FLOP for each element written, of complex
  numbers two and a product six;
- reductions and cumulative sums: one for each element read; windows that
  overlap read an element several times;
- sorting n numbers: n ceil(log2 n); the k largest of them: n ceil(log2 k), one
  each at least;
- a Fourier transform of n numbers: 5 n log2 n, of real ones half of that;
- linear algebra: leading terms of Golub and Van Loan, *Matrix Computations*,
  and LAPACK Working Note 41;
- a Pallas kernel: what its cost estimate says, half of it MACs if there is a
  matrix product in the kernel;
- moving, comparing, selecting, casting, indexing, drawing random bits: none.

In a convolution each position of the output, or of the input if that has
fewer, meets each tap of the kernel once. So zeros that padding brings count, as
in published figures, unless they make the output larger than the input; zeros
that a transposed convolution puts between its inputs do not; and either
gradient costs what the convolution does. What is computed and not used counts.
"""

# ruff: noqa: SIM905

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp

from effarch.infrastructure.cost.program import Operation, Value

ELEMENTWISE = frozenset(
  """
  abs acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e
  bessel_i1e cbrt ceil clamp cos cosh digamma div erf erf_inv erfc exp exp2
  expm1 floor igamma igamma_grad_a igammac integer_pow lgamma log log1p log2
  logistic max min mul mulhi neg nextafter one_minus_square polygamma pow
  random_gamma regularized_incomplete_beta rem round rsqrt sign sin sinh sqrt
  square sub tan tanh zeta
  """.split()
)
READING = frozenset(
  """
  argmax argmin cumlogsumexp cummax cummin cumprod cumsum pmax pmin psum
  psum_invariant reduce reduce_and reduce_max reduce_min reduce_or
  reduce_prod reduce_scatter reduce_sum reduce_xor
  """.split()
)
# Another name for the same numbers: nothing is moved.
VIEWS = frozenset(
  """
  bitcast_convert_type broadcast_in_dim copy device_put layout_constraint
  name optimization_barrier pvary random_unwrap random_wrap reduced_vary_cast
  reshape reshard sharding_constraint squeeze stop_gradient
  xla_metadata_value
  """.split()
)
# Like arithmetic, these are done to each element by itself.
CASTING = frozenset(
  """
  and clz complex conj convert_element_type empty empty2 eq eq_to ge gt imag
  iota is_finite le le_to lt lt_to ne not or population_count real
  reduce_precision select_n shift_left shift_right_arithmetic
  shift_right_logical xor
  """.split()
)
MOVING = frozenset(
  """
  all_gather all_gather_invariant all_to_all axis_index broadcast_to
  concatenate create_token dimension_size from_edtype to_edtype zeros_like
  debug_callback debug_print dynamic_slice dynamic_update_slice empty_ref
  free_ref freeze gather get lu_pivots_to_permutation new_ref pad pbroadcast
  philox2x32 philox4x32 platform_index ppermute random_bits random_clone
  random_fold_in random_seed random_split rev rng_bit_generator rng_uniform
  scatter select_and_gather_add slice split stack swap threefry2x32
  threefry4x32 tile transpose unstack
  """.split()
)


def macs(operation: Operation) -> int:
  """Returns the multiply-accumulates of matrix products and convolutions."""
  name, params = operation.name, operation.params
  if name == "pallas_call":
    # An estimate has no MACs; those of matrix products are half their FLOPs.
    multiplies = "dot_general" in str(params["jaxpr"])
    return params["cost_estimate"].flops // 2 if multiplies else 0
  if name not in PRODUCTS:
    return 0
  left = operation.inputs[0]
  made = operation.outputs[0].size
  if name == "conv_general_dilated":
    made = _conv(operation)
  elif name == "ragged_dot_general":
    numbers = params["ragged_dot_dimension_numbers"]
    (contracted, _), _ = numbers.dot_dimension_numbers
    made *= math.prod(left.shape[axis] for axis in contracted)
    if set(numbers.lhs_ragged_dimensions) & set(contracted):
      made //= operation.outputs[0].shape[0]  # Groups share out the length.
  else:
    (contracted, _), _ = params["dimension_numbers"]
    made *= math.prod(left.shape[axis] for axis in contracted)
  return made * (4 if _complex(operation.outputs[0]) else 1)


def _conv(operation: Operation) -> int:
  lhs, rhs, out = operation.params["dimension_numbers"]
  image, kernel = (value.shape for value in operation.inputs)
  made = operation.outputs[0].shape
  # JAX makes the gradient of a kernel by a convolution over the batch, with
  # the gradient of the output as its kernel.
  of_kernel = operation.backward and lhs[0] > lhs[1]
  pairs = 1
  for i, k, o in zip(lhs[2:], rhs[2:], out[2:], strict=True):
    size, taps, results = image[i], kernel[k], made[o]
    if of_kernel:
      taps, results = results, taps
    pairs *= min(size, results) * taps
  # The kernel's input channels are a group's own already. Groups of the batch
  # share it out among the features.
  return pairs * kernel[rhs[1]] * made[out[0]] * made[out[1]]


def flops(operation: Operation) -> int | None:
  """Returns all FLOPs of an operation, or None if the table lacks it."""
  rule = _RULES.get(operation.name)
  return None if rule is None else rule(operation)


def _elementwise(operation: Operation) -> int:
  made = operation.outputs[0]
  each = 1
  if _complex(made) or _complex(operation.inputs[0]):
    each = 6 if operation.name in ("mul", "div") else 2
  return each * sum(value.size for value in operation.outputs)


def _reading(operation: Operation) -> int:
  each = 2 if _complex(operation.inputs[0]) else 1
  read = operation.inputs
  if operation.name == "reduce":
    read = read[: len(read) // 2]  # The others are where it starts.
  return each * sum(value.size for value in read)


def _window(operation: Operation) -> int:
  window = math.prod(operation.params["window_dimensions"])
  return operation.outputs[0].size * window


def _select_and_scatter_add(operation: Operation) -> int:
  # Of each window one element is selected, and one added to.
  window = math.prod(operation.params["window_dimensions"])
  return operation.inputs[0].size * (window + 1)


def _scatter(operation: Operation) -> int:
  return operation.inputs[2].size


def _sort(operation: Operation) -> int:
  keys = operation.inputs[0]
  return keys.size * _log2(keys.shape[operation.params["dimension"]])


def _top_k(operation: Operation) -> int:
  return operation.inputs[0].size * max(1, _log2(operation.params["k"]))


def _fft(operation: Operation) -> int:
  lengths = operation.params["fft_lengths"]
  points = math.prod(lengths)
  real_in = not _complex(operation.inputs[0])
  real = real_in or not _complex(operation.outputs[0])
  whole = operation.inputs[0] if real_in else operation.outputs[0]
  batch = whole.size // points if points else 0
  return round(batch * points * math.log2(points) * (2.5 if real else 5))


def _matrices(value: Value) -> tuple[int, int, int]:
  """Returns how many matrices there are, their rows and columns."""
  *batch, rows, columns = value.shape
  return math.prod(batch), rows, columns


def _square(numerator: int, denominator: int = 1):
  """Returns the rule of an algorithm that takes so many times n cubed."""

  def rule(operation: Operation) -> int:
    number, n, _ = _matrices(operation.inputs[0])
    return number * n**3 * numerator // denominator

  return rule


def _lu(operation: Operation) -> int:
  number, m, n = _matrices(operation.inputs[0])
  k = min(m, n)
  return number * (6 * m * n * k - 3 * (m + n) * k**2 + 2 * k**3) // 3


def _geqrf(operation: Operation) -> int:
  number, m, n = _matrices(operation.inputs[0])
  small, large = min(m, n), max(m, n)
  return number * (6 * large * small**2 - 2 * small**3) // 3


def _householder_product(operation: Operation) -> int:
  number, m, n = _matrices(operation.inputs[0])
  k = operation.inputs[1].shape[-1]
  return number * (12 * m * n * k - 6 * (m + n) * k**2 + 4 * k**3) // 3


def _qr(operation: Operation) -> int:
  _, m, n = _matrices(operation.inputs[0])
  number, _, columns = _matrices(operation.outputs[0])
  k = min(m, n)
  product = 12 * m * columns * k - 6 * (m + columns) * k**2 + 4 * k**3
  return _geqrf(operation) + number * product // 3


def _triangular_solve(operation: Operation) -> int:
  _, n, _ = _matrices(operation.inputs[0])
  return operation.inputs[1].size * n


def _svd(operation: Operation) -> int:
  number, m, n = _matrices(operation.inputs[0])
  small, large = min(m, n), max(m, n)
  if operation.params["compute_uv"]:
    return number * (6 * large * small**2 + 20 * small**3)
  return number * (2 * large * small**2 + 2 * small**3)


def _eig(operation: Operation) -> int:
  params = operation.params
  vectors = (
    params["compute_left_eigenvectors"] or params["compute_right_eigenvectors"]
  )
  return _square(25 if vectors else 10)(operation)


def _pallas_call(operation: Operation) -> int:
  return operation.params["cost_estimate"].flops


def _free(operation: Operation) -> int:
  del operation
  return 0


def _product(operation: Operation) -> int:
  return 2 * macs(operation)


PRODUCTS = frozenset(
  {
    "conv_general_dilated",
    "dot_general",
    "ragged_dot_general",
  }
)

_RULES: dict[str, Callable[[Operation], int]] = {
  **dict.fromkeys(PRODUCTS, _product),
  **dict.fromkeys(ELEMENTWISE, _elementwise),
  **dict.fromkeys(READING, _reading),
  **dict.fromkeys(VIEWS | CASTING | MOVING, _free),
  "addupdate": lambda operation: operation.inputs[1].size,
  "approx_top_k": _top_k,
  "cholesky": _square(1, 3),
  "eig": _eig,
  "eigh": _square(9),
  "fft": _fft,
  "geqp3": _geqrf,
  "geqrf": _geqrf,
  "hessenberg": _square(10, 3),
  "householder_product": _householder_product,
  "lu": _lu,
  "pallas_call": _pallas_call,
  "polynomial": lambda o: 2 * (len(o.inputs) - 1) * o.outputs[0].size,
  "qr": _qr,
  "reduce_window": _window,
  "reduce_window_max": _window,
  "reduce_window_min": _window,
  "reduce_window_sum": _window,
  "scatter-add": _scatter,
  "scatter-max": _scatter,
  "scatter-min": _scatter,
  "scatter-mul": _scatter,
  "scatter-sub": _scatter,
  "schur": _square(25),
  "select_and_scatter_add": _select_and_scatter_add,
  "sort": _sort,
  "svd": _svd,
  "top_k": _top_k,
  "triangular_solve": _triangular_solve,
  "tridiagonal": _square(4, 3),
  "tridiagonal_solve": lambda operation: 8 * operation.inputs[3].size,
}


def _log2(number: int) -> int:
  return math.ceil(math.log2(max(1, number)))


def _complex(value: Value) -> bool:
  return jnp.issubdtype(value.dtype, jnp.complexfloating)
