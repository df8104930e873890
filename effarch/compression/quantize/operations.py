"""What JAX's operations are to a runtime that computes in integers."""

from __future__ import annotations

import contextlib
import enum
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core


class Kind(enum.Enum):
  """Of an operation.

  `CONTRACTION`: a product or convolution. `COMPUTE`: another with integer
  kernels. `ACTIVATION`: fuses with the one before. `MOVE`: keeps numbers as
  they are. `OTHER`: stays in float.
  """

  CONTRACTION = enum.auto()
  COMPUTE = enum.auto()
  ACTIVATION = enum.auto()
  MOVE = enum.auto()
  OTHER = enum.auto()


_CONTRACTIONS = ("conv_general_dilated", "dot_general")
_KINDS = {
  **dict.fromkeys(_CONTRACTIONS, Kind.CONTRACTION),
  **dict.fromkeys(
    (
      *("add", "hard_swish", "logistic", "mul", "reduce_sum"),
      *("reduce_window_sum", "sub", "tanh"),
    ),
    Kind.COMPUTE,
  ),
  **dict.fromkeys(("relu", "relu6"), Kind.ACTIVATION),
  **dict.fromkeys(
    (
      *("broadcast_in_dim", "concatenate", "copy", "expand_dims", "pad"),
      *("max_pool", "reduce_max", "reduce_window_max", "reshape", "slice"),
      *("split", "squeeze", "transpose"),
    ),
    Kind.MOVE,
  ),
}
# The ranges that LiteRT's integer kernels give these: a zero point at the end,
# or in the middle, and 256 steps.
RANGES = {
  "logistic": (0.0, 255 / 256),
  "tanh": (-1.0, 127 / 128),
}
_INLINED = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2")
# Calls that the runtime has one operation for, or that would be more of them.
_WHOLE = ("hard_swish", "max_pool", "relu", "relu6")


def name_of(equation: Any) -> str:
  """Returns the name of the primitive, or of the function that is called."""
  called = _called(equation)
  if called is not None and called.jaxpr.debug_info.func_name in _WHOLE:
    return called.jaxpr.debug_info.func_name
  return equation.primitive.name


def _called(equation: Any) -> Any:
  called = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
  if isinstance(called, core.Jaxpr):
    return core.ClosedJaxpr(called, ())
  return called


def kind_of(equation: Any) -> Kind:
  """Returns what the equation is, if inputs reach it."""
  if is_convolution(equation):
    return Kind.CONTRACTION
  axes = equation.params.get("axes", ())
  if axes and equation.invars[0].aval.ndim - 1 in axes:
    # Over channels: of a normalization or a softmax, which stay in float.
    return Kind.OTHER
  return _KINDS.get(name_of(equation), Kind.OTHER)


def is_convolution(equation: Any) -> bool:
  """Whether this is a convolution that the house formulates by platform."""
  return (
    equation.primitive.name == "custom_vjp_call"
    and len(equation.invars) == 2
    and any(
      each.primitive.name in _CONTRACTIONS
      for each in _within(_called(equation))
    )
  )


def _within(jaxpr: Any):
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(
      list(equation.params.values()),
      is_leaf=lambda each: isinstance(each, core.ClosedJaxpr),
    ):
      if isinstance(inner, core.ClosedJaxpr):
        yield from _within(inner)


def inlined(equation: Any) -> Any:
  """Returns the jaxpr of a call that vanishes, if the equation is one."""
  name = equation.primitive.name
  if name not in _INLINED or name_of(equation) in _WHOLE:
    return None
  return _called(equation)


def caller(equation: Any) -> Callable[..., Sequence[Any]]:
  """Returns a function that computes an equation, under its own scope."""
  scope = str(equation.source_info.name_stack)

  def call(*arrays):
    params = equation.primitive.get_bind_params(equation.params)
    if equation.primitive.name == "reduce_max":
      return [_maximum(*arrays, tuple(params["axes"]))]
    with jax.named_scope(scope) if scope else contextlib.nullcontext():
      found = equation.primitive.bind(*arrays, **params)
    return found if equation.primitive.multiple_results else [found]

  return call


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _maximum(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """Returns the maximum, whose gradient the first of equals gets.

  JAX's own goes to what equals the maximum. Compiled, what is rounded can be
  computed twice and rounded two ways: nothing equals it then, and the gradient
  is no number.
  """
  return x.max(axes)


def _maximum_forward(x, axes):
  kept = [axis for axis in range(x.ndim) if axis not in axes]
  rows = x.transpose(*kept, *axes).reshape(*(x.shape[a] for a in kept), -1)
  return _maximum(x, axes), (rows.argmax(-1), x)


def _maximum_backward(axes, kept, gradient):
  first, x = kept
  rest = [axis for axis in range(x.ndim) if axis not in axes]
  lengths = [x.shape[axis] for axis in axes]
  rows = jax.nn.one_hot(first, math.prod(lengths), dtype=x.dtype)
  spread = (rows * gradient[..., None]).reshape(*first.shape, *lengths)
  return (spread.transpose(*np.argsort([*rest, *axes])),)


_maximum.defvjp(_maximum_forward, _maximum_backward)


def output_axis(equation: Any, place: int) -> int | None:
  """Returns the axis of a weight on which LiteRT takes a scale for each place.

  It is the one that only the output has, of a convolution's kernel or of a
  matrix that the last axis of inputs is multiplied with.

  Args:
    equation: a contraction.
    place: of the weight.

  Returns:
    None if there is none: LiteRT has one scale for such a weight.
  """
  params, weight = equation.params, equation.invars[place].aval
  if is_convolution(equation):
    return weight.ndim - 1
  if equation.primitive.name == "conv_general_dilated":
    return params["dimension_numbers"].rhs_spec[0]
  contracted, batched = params["dimension_numbers"]
  last = equation.invars[0].aval.ndim - 1
  layer = place == 1 and weight.ndim == 2 and not batched[place]
  if not layer or tuple(contracted[0]) != (last,):
    return None
  return 1 - contracted[1][0]
