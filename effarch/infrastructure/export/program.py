"""A model as one flat program, for the formats that are written from it.

Nothing in it is for one platform, and nothing is computed that could be known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.extend import core
from jax.interpreters import partial_eval

from effarch.errors import UserError

# What a quantized model notes of its arrays: a composite of this name, which
# computes what storing the array in integers and reading it does.
NOTE = "quant.fake_quant"

_CALLS = (
  *("checkpoint", "closed_call", "composite", "core_call", "custom_jvp_call"),
  *("custom_vjp_call", "jit", "pjit", "remat2"),
)
# As many numbers are kept rather than computed anew, and more of what is no
# larger than what it is computed from.
_FEW = 1024


@dataclasses.dataclass(frozen=True)
class Note:
  """How an array is stored: `(integers - zero_point) * scale`.

  Args:
    scale: one, or one for each place on the axis.
    zero_point: as many.
    bits: of an integer.
    narrow: the least integer is left out.
    axis: that scales lie on.
  """

  scale: np.ndarray
  zero_point: np.ndarray
  bits: int
  narrow: bool
  axis: int | None

  def integers(self, array: Any) -> np.ndarray:
    """Returns how an array is stored, in int8."""
    array = np.asarray(array)
    most = 2 ** (self.bits - 1) - 1
    scale, zero = (self.along(each, array.ndim) for each in self._pair())
    found = np.round(array / scale) + zero
    return np.clip(found, -most - (not self.narrow), most).astype(np.int8)

  def floats(self, integers: jax.Array) -> jax.Array:
    """Returns what is stored."""
    scale, zero = (self.along(each, integers.ndim) for each in self._pair())
    return (integers.astype(np.float32) - zero.astype(np.float32)) * scale

  def along(self, numbers: np.ndarray, ndim: int) -> np.ndarray:
    """Returns numbers, one for each place on the axis, to be broadcast."""
    shape = [1] * ndim
    if self.axis is not None:
      shape[self.axis] = -1
    return numbers.reshape(shape)

  def _pair(self) -> tuple[np.ndarray, np.ndarray]:
    return self.scale, self.zero_point


# From a constant and its note to what stands for it.
Store = Callable[[jax.Array, Note], Any]
# From an equation and what it reads to what it shall read.
Edit = Callable[[Any, list[Any]], list[Any]]


def flat(
  model: nnx.Module,
  example: jax.ShapeDtypeStruct,
  store: Store | None = None,
  edit: Edit | None = None,
) -> core.ClosedJaxpr:
  """Returns a model's program without calls.

  Args:
    model: in evaluation mode, from a batch to logits.
    example: the shape of its batch.
    store: of constants that are noted to be quantized; they stay notes if
      None.
    edit: changes what operations read.

  Raises:
    UserError: the model returns several arrays, or computes nothing where
      no platform is known.
  """
  graphdef, state = nnx.split(model)

  def call(inputs):
    return nnx.merge(graphdef, state)(inputs)

  traced = jax.make_jaxpr(call)(example)
  if len(traced.out_avals) != 1:
    raise UserError(
      f"a file has one output, and the model returns {len(traced.out_avals)} "
      "arrays; wrap it in one that returns the logits"
    )

  def run(inputs):
    return _run(traced.jaxpr, traced.consts, [inputs], store, edit)

  found = jax.make_jaxpr(run)(example)
  # What nobody reads is left out.
  jaxpr, _ = partial_eval.dce_jaxpr(
    found.jaxpr, [True] * len(found.jaxpr.outvars), instantiate=True
  )
  return core.ClosedJaxpr(jaxpr, found.consts)


def note(equation: Any) -> Note | None:
  """Returns the note that an equation is, if it is one."""
  params = equation.params
  if equation.primitive.name != "composite" or params["name"] != NOTE:
    return None
  found = {
    key: jax.tree.unflatten(tree, [getattr(leaf, "val", leaf) for leaf in flat])
    for key, flat, tree in params["attributes"]
  }
  axis = found.get("quantization_dimension")
  return Note(
    scale=np.asarray(found["scale"]),
    zero_point=np.asarray(found["zero_point"]),
    bits=int(found["dtype"][1:]),
    narrow=bool(found["narrow_range"]),
    axis=None if axis is None else int(axis),
  )


def number(literal: Any) -> np.ndarray:
  """Returns what is written out in a program, in its type."""
  return np.asarray(literal.val, literal.aval.dtype)


def _run(
  jaxpr: Any,
  constants: Sequence[Any],
  inputs: Sequence[Any],
  store: Store | None,
  edit: Edit | None,
) -> list[Any]:
  values = dict(zip(jaxpr.constvars, constants, strict=True))
  values |= zip(jaxpr.invars, inputs, strict=True)

  def read(each):
    if isinstance(each, core.Literal):
      return number(each)
    return values[each]

  for equation in jaxpr.eqns:
    given = [read(each) for each in equation.invars]
    found = _step(equation, given, store, edit)
    values |= zip(equation.outvars, found, strict=True)
  return [read(each) for each in jaxpr.outvars]


def _step(
  equation: Any, given: list[Any], store: Store | None, edit: Edit | None
) -> Sequence[Any]:
  name, params = equation.primitive.name, equation.params
  known = not any(isinstance(each, Tracer) for each in given)
  if name == "platform_index":
    # None is the one for platforms that are not named.
    if None not in params["platforms"]:
      raise UserError(
        "the model has a branch for each of some platforms, and none for a "
        "file; give lax.platform_dependent a default"
      )
    return [np.int32(params["platforms"].index(None))]
  if name == "cond" and not isinstance(given[0], Tracer):
    inner, given = params["branches"][int(given[0])], given[1:]
    return _run(inner.jaxpr, inner.consts, given, store, edit)
  if name == "gather" and not isinstance(given[1], Tracer):
    kept = _kept(equation, given)
    if kept is not None:
      return [kept]
  noted = note(equation)
  if noted is not None and known and store is not None:
    return [store(given[-1], noted)]  # Before it is what its function holds.
  if noted is None and name in _CALLS:
    inner = params.get("call_jaxpr", params.get("jaxpr"))
    closed = isinstance(inner, core.ClosedJaxpr)
    jaxpr, constants = (inner.jaxpr, inner.consts) if closed else (inner, ())
    return _run(jaxpr, constants, given, store, edit)
  if known and noted is None and _folds(equation):
    with jax.ensure_compile_time_eval():
      return _bound(equation, given)
  return _bound(equation, given if edit is None else edit(equation, given))


def _bound(equation: Any, given: list[Any]) -> Sequence[Any]:
  params = equation.primitive.get_bind_params(equation.params)
  found = equation.primitive.bind(*given, **params)
  return found if equation.primitive.multiple_results else [found]


def _kept(equation: Any, given: list[Any]) -> Any:
  """Returns what a gathering of all in order is; None if it is another."""
  x, places = given
  shape, size = equation.outvars[0].aval.shape, math.prod(x.shape)
  if math.prod(shape) != size:
    return None
  order = np.arange(size, dtype=np.int32).reshape(x.shape)
  with jax.ensure_compile_time_eval():
    (found,) = _bound(equation, [order, places])
  kept = np.array_equal(np.ravel(found), np.ravel(order))
  return jax.lax.reshape(x, shape) if kept else None


def _folds(equation: Any) -> bool:
  """Whether what is computed from constants takes no more than they do."""

  def numbers(variables):
    return sum(math.prod(each.aval.shape) for each in variables)

  return numbers(equation.outvars) <= max(_FEW, numbers(equation.invars))
