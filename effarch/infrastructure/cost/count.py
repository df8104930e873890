"""MACs and FLOPs of any JAX function, from shapes alone, by its jaxpr.

Loop bodies count once for each turn and a `cond` costs its costliest branch.

Convention: a multiply-accumulate of a matrix product or convolution is one
MAC and two FLOPs. Every other arithmetic primitive is one FLOP for each
element it writes, a reduction or a cumulative sum one for each element it
reads; windows that overlap read an element several times. Moving, comparing,
sorting, casting and indexing cost no FLOPs. The zeros that padding and
dilation bring count, as in the published figures.
"""

# ruff: noqa: SIM905

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

_ELEMENTWISE = frozenset(
  "abs acos acosh add add_any asin asinh atan atan2 atanh cbrt ceil clamp "
  "cos cosh digamma div erf erf_inv erfc exp exp2 expm1 floor igamma "
  "integer_pow lgamma log log1p log2 logistic max min mul neg "
  "one_minus_square pow rem round rsqrt sign sin sinh sqrt square sub tan "
  "tanh".split()
)
_READS = frozenset(
  "argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_and "
  "reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor".split()
)
_FREE = frozenset(
  "and bitcast_convert_type broadcast_in_dim concatenate "
  "convert_element_type copy device_put dynamic_slice dynamic_update_slice "
  "eq gather ge gt imag iota is_finite le lt name ne not "
  "optimization_barrier or pad random_bits random_clone random_fold_in "
  "random_seed random_split random_unwrap random_wrap real reduce_precision "
  "reshape rev scatter select_and_gather_add select_n sharding_constraint "
  "shift_left shift_right_arithmetic shift_right_logical slice sort split "
  "squeeze stack stop_gradient threefry2x32 top_k transpose unstack xor".split()
)
_CALLS = frozenset(
  "closed_call custom_jvp_call custom_vjp_call jit remat2".split()
)


@dataclasses.dataclass(frozen=True)
class Count:
  """What one call costs.

  Args:
    macs: multiply-accumulates of matrix products and convolutions.
    flops: twice the MACs and all other arithmetic.
    unknown: primitives that are not counted, with their number of calls.
  """

  macs: int = 0
  flops: int = 0
  unknown: dict[str, int] = dataclasses.field(default_factory=dict)

  def __add__(self, other: Count) -> Count:
    unknown = collections.Counter(self.unknown)
    unknown.update(other.unknown)
    return Count(
      self.macs + other.macs, self.flops + other.flops, dict(unknown)
    )

  def __mul__(self, times: int) -> Count:
    unknown = {name: number * times for name, number in self.unknown.items()}
    return Count(self.macs * times, self.flops * times, unknown)


def count(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Count:
  """Returns what `function(*args, **kwargs)` costs, without running it.

  Args:
    function: anything that `jax.make_jaxpr` takes.
    *args: arrays or `jax.ShapeDtypeStruct`.
    **kwargs: likewise.

  Raises:
    ValueError: a `while_loop` runs a number of times that no shape tells.
  """
  return _jaxpr(jax.make_jaxpr(function)(*args, **kwargs).jaxpr)


def _jaxpr(jaxpr: Any) -> Count:
  return sum((_equation(e) for e in jaxpr.eqns), Count())


def _equation(equation: Any) -> Count:
  name, params = equation.primitive.name, equation.params
  if name == "scan":
    return _jaxpr(params["jaxpr"].jaxpr) * params["length"]
  if name == "cond":
    branches = [_jaxpr(branch.jaxpr) for branch in params["branches"]]
    costliest = max(branches, key=lambda branch: branch.flops)
    # A branch may seem cheap only for what is not counted in it.
    unknown = collections.Counter()
    for branch in branches:
      unknown |= collections.Counter(branch.unknown)
    return dataclasses.replace(costliest, unknown=dict(unknown))
  if name == "while":
    raise ValueError(
      "a while_loop's number of turns is not known from shapes; use lax.scan, "
      "or lax.fori_loop with constant bounds"
    )
  if name in _CALLS:
    return _jaxpr(_inner(params))
  if name in ("dot_general", "conv_general_dilated"):
    macs = _dot(equation) if name == "dot_general" else _conv(equation)
    return Count(macs, 2 * macs)
  if name in _ELEMENTWISE:
    return Count(flops=_size(equation.outvars))
  if name in _READS:
    return Count(flops=_size(equation.invars))
  if name.startswith("reduce_window_"):
    window = math.prod(params["window_dimensions"])
    return Count(flops=_size(equation.outvars) * window)
  if name == "select_and_scatter_add":
    # Of each window one element is selected, and one added to.
    window = math.prod(params["window_dimensions"])
    return Count(flops=_size(equation.invars[:1]) * (window + 1))
  if name.startswith("scatter-"):
    return Count(flops=_size(equation.invars[2:]))
  if name in _FREE:
    return Count()
  return Count(unknown={name: 1})


def _inner(params: dict[str, Any]) -> Any:
  """Returns the jaxpr that a call runs."""
  jaxpr = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
  return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _dot(equation: Any) -> int:
  """Returns output elements times the contracted length."""
  (contracted, _), _ = equation.params["dimension_numbers"]
  shape = equation.invars[0].aval.shape
  length = math.prod(shape[axis] for axis in contracted)
  return _size(equation.outvars) * length


def _conv(equation: Any) -> int:
  """Returns output elements times what one of them sums: taps x channels.

  The kernel's input-channel axis is a group's own already, so groups need no
  division. A batch group shares out the batch in the same way.
  """
  kernel = equation.invars[1].aval.shape
  features = equation.params["dimension_numbers"].rhs_spec[0]
  per_output = math.prod(kernel) // kernel[features]
  return _size(equation.outvars) * per_output


def _size(variables: Any) -> int:
  return sum(math.prod(v.aval.shape) for v in variables)
