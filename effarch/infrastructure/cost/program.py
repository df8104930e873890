"""A JAX function as a flat list of operations, from its jaxpr.

Calls (`jit`, `remat`, `custom_jvp`, ...) are entered and vanish; loops,
branches and shards stay, with their bodies. Each operation knows the path it
was traced under, and each value whether inputs reach it.
"""

# ruff: noqa: SIM905

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from effarch.infrastructure.cost.turns import known_turns

_CALLS = frozenset(
  "call closed_call composite core_call custom_jvp_call custom_vjp_call "
  "custom_partitioning custom_vmap_call eval_jaxpr jit linear_call remat2 "
  "remat_opt".split()
)
_CALLED = ("jaxpr", "call_jaxpr", "call", "callee", "fwd_jaxpr")


@dataclasses.dataclass(eq=False, slots=True)
class Value:
  """An array that a program reads or makes.

  Args:
    shape: of the array.
    dtype: of its elements.
    fixed: weights and constants alone tell it, whatever the inputs are.
    weight: a parameter, or an array that the function holds, tells it.
    literal: a number that is part of the program.
    content: a function that returns the array itself, if that can be known.
  """

  shape: tuple[int, ...]
  dtype: Any
  fixed: bool = False
  weight: bool = False
  literal: bool = False
  content: Callable[[], Any] | None = None

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  @property
  def bits(self) -> int:
    """Bits of one element."""
    return element_bits(self.dtype)

  @property
  def nbytes(self) -> int:
    return -(-self.size * self.bits // 8)


@dataclasses.dataclass(eq=False, slots=True)
class Operation:
  """One primitive applied.

  Args:
    name: of the primitive.
    params: of the primitive.
    inputs: what it reads.
    outputs: what it makes.
    path: of the module, or the named scope, that it belongs to.
    backward: it belongs to a backward pass.
    bodies: of a loop, the bodies of all turns in a list for each way it can
      go: several for a branch, else one.
  """

  name: str
  params: dict[str, Any]
  inputs: list[Value]
  outputs: list[Value]
  path: str = ""
  backward: bool = False
  bodies: list[list[Turns]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False, slots=True)
class Block:
  """Operations in order, and the values that outlive them."""

  operations: list[Operation]
  outputs: list[Value]


@dataclasses.dataclass(eq=False, slots=True)
class Turns:
  """A block that runs `number` times."""

  block: Block
  number: int


def element_bits(dtype: Any) -> int:
  """Returns the bits that one element takes."""
  if jnp.issubdtype(dtype, jnp.integer):
    return jnp.iinfo(dtype).bits
  if jnp.issubdtype(dtype, jnp.floating):
    return jnp.finfo(dtype).bits
  return dtype.itemsize * 8


def read(
  jaxpr: core.ClosedJaxpr,
  inputs: Sequence[Value],
  *,
  modules: bool = False,
  while_turns: int | None = None,
) -> Block:
  """Returns the operations of a jaxpr.

  Args:
    jaxpr: as `jax.make_jaxpr` makes it.
    inputs: one for each of its arguments.
    modules: paths are those that `scope` wrote; else all named scopes count.
    while_turns: of each `while_loop` whose turns can't be known.

  Raises:
    ValueError: such a loop, and no `while_turns`; or a Pallas kernel without
      a cost estimate.
  """
  return _Reader(modules, while_turns).block(jaxpr, inputs, _Place("", False))


def scope(path: str):
  """Returns a context: what is traced in it belongs to the module `path`."""
  return jax.named_scope(f"<{path}>")


@dataclasses.dataclass(frozen=True)
class _Place:
  path: str
  backward: bool


class _Reader:
  def __init__(self, modules: bool, while_turns: int | None):
    self._modules = modules
    self._while_turns = while_turns

  def block(self, jaxpr: Any, inputs: Sequence[Value], place: _Place) -> Block:
    operations: list[Operation] = []
    outputs = self._enter(jaxpr, inputs, place, operations)
    return Block(operations, outputs)

  def _enter(self, jaxpr, inputs, place, operations) -> list[Value]:
    """Appends a jaxpr's operations; returns its outputs."""
    consts = jaxpr.consts if isinstance(jaxpr, core.ClosedJaxpr) else ()
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    values = dict(zip(jaxpr.invars, inputs, strict=True))
    for variable, array in zip(jaxpr.constvars, consts, strict=True):
      values[variable] = _constant(array, jax.typeof(array), weight=True)

    def value(variable):
      if isinstance(variable, core.Literal):
        return _constant(variable.val, variable.aval, literal=True)
      return values[variable]

    for equation in jaxpr.eqns:
      found = self._equation(
        equation, [value(v) for v in equation.invars], place, operations
      )
      values.update(zip(equation.outvars, found, strict=True))
    return [value(v) for v in jaxpr.outvars]

  def _equation(self, equation, inputs, place, operations) -> list[Value]:
    name, params = equation.primitive.name, equation.params
    place = self._place(equation, place)
    if name in _CALLS:
      called = next(params[key] for key in _CALLED if key in params)
      return self._enter(called, inputs, place, operations)
    if name.startswith("call_hi_primitive"):  # Since jax 0.12
      lowered = jax.make_jaxpr(
        lambda *args: equation.primitive.to_lojax(*args, **params)
      )(*(v.aval for v in equation.invars))
      return self._enter(lowered, inputs, place, operations)
    if name == "custom_linear_solve":
      # matvec, vecmat, solve, transpose_solve: the third is what runs.
      first, second, third, fourth = params["const_lengths"]
      start, end = first + second, first + second + third
      inputs = inputs[start:end] + inputs[end + fourth :]
      solve = params["jaxprs"].solve
      return self._enter(solve, inputs, place, operations)
    if params.get("branches_platforms"):  # Of `lax.platform_dependent`
      # Other platforms' forms may be calls that tell nothing of what they do.
      index = params["branches_platforms"].index(None)
      return self._enter(
        params["branches"][index], inputs[1:], place, operations
      )
    operation = Operation(name, params, inputs, [], place.path, place.backward)
    operations.append(operation)
    if name in ("scan", "while", "cond", "shard_map"):
      operation.bodies = getattr(self, f"_{name}")(params, inputs, place)
      operation.outputs = [_unknown(v.aval) for v in equation.outvars]
    else:
      if name == "pallas_call" and params.get("cost_estimate") is None:
        raise ValueError(
          f"Pallas kernel {_kernel_name(params)!r} has no cost; give "
          "pallas_call a cost_estimate"
        )
      operation.outputs = _results(equation, inputs, place.backward)
    return operation.outputs

  def _scan(self, params, inputs, place) -> list[list[Turns]]:
    jaxpr, length = params["jaxpr"], params["length"]
    if "ft_in" in params:  # Since jax 0.12
      consts, carried = (len(part) for part in params["ft_in"].unpack()[:2])
    else:
      consts, carried = params["num_consts"], params["num_carry"]
    carry = inputs[consts : consts + carried]
    start = [*inputs[:consts], *(_unknown(value) for value in carry)]
    stacked = inputs[consts + carried :]
    if any(_has_zeros(v) for v in stacked if len(v.shape) > 2):
      # Each turn has matrices of its own, and zeros of its own in them.
      turns = []
      for turn in range(length):
        slices = [_slice(value, turn) for value in stacked]
        turns.append(Turns(self.block(jaxpr, start + slices, place), 1))
      return [turns]
    slices = [_slice(value) for value in stacked]
    return [[Turns(self.block(jaxpr, start + slices, place), length)]]

  def _while(self, params, inputs, place) -> list[list[Turns]]:
    number = known_turns(params, [value.content for value in inputs])
    if number is None:
      number = self._while_turns
    if number is None:
      raise ValueError(
        "a while_loop's number of turns is not known from shapes; use "
        "lax.scan, or lax.fori_loop with constant bounds, or tell while_turns"
      )
    asks, does = params["cond_nconsts"], params["body_nconsts"]
    carry = [_unknown(value) for value in inputs[asks + does :]]
    condition = self.block(
      params["cond_jaxpr"], [*inputs[:asks], *carry], place
    )
    body = self.block(
      params["body_jaxpr"], [*inputs[asks : asks + does], *carry], place
    )
    return [[Turns(condition, number + 1), Turns(body, number)]]

  def _cond(self, params, inputs, place) -> list[list[Turns]]:
    return [
      [Turns(self.block(branch, inputs[1:], place), 1)]
      for branch in params["branches"]
    ]

  def _shard_map(self, params, inputs, place) -> list[list[Turns]]:
    jaxpr, sizes = params["jaxpr"], dict(params["mesh"].shape)
    axes = params.get("newly_manual_axes", sizes)
    shards = [
      Value(v.aval.shape, v.aval.dtype, value.fixed, value.weight)
      for v, value in zip(jaxpr.invars, inputs, strict=True)
    ]
    block = self.block(jaxpr, shards, place)
    return [[Turns(block, math.prod(sizes[axis] for axis in axes))]]

  def _place(self, equation, outer: _Place) -> _Place:
    stack = str(equation.source_info.name_stack)
    if not stack:
      return outer
    backward = outer.backward or "transpose(" in stack
    if self._modules:
      marks = re.findall(r"<([^<>]*)>", stack)
      return _Place(marks[-1] if marks else outer.path, backward)
    parts = outer.path.split(".") if outer.path else []
    for name in stack.split("/"):
      name = re.sub(r"^(\w+\()*|\)*$", "", name)
      # JAX names some scopes by itself, "ij,jk->ik" or that of a
      # recomputation; in a gradient a scope can follow itself.
      own = re.fullmatch(r"[\w.-]+", name) and name != "rematted_computation"
      if own and name not in parts[-1:]:
        parts.append(name)
    return _Place(".".join(parts), backward)


def _constant(array: Any, aval: Any, **flags: bool) -> Value:
  """Returns the value of an array that no input changes."""
  value = _unknown(aval)
  return dataclasses.replace(value, fixed=True, content=lambda: array, **flags)


def _unknown(like: Any) -> Value:
  """Returns a value of the same shape that nothing is known of."""
  # A token has no shape, and takes no memory.
  return Value(
    tuple(getattr(like, "shape", (0,))),
    getattr(like, "dtype", jnp.dtype(bool)),
  )


def _results(equation: Any, inputs: list[Value], backward: bool) -> list[Value]:
  weight = any(value.weight for value in inputs)
  fixed = all(value.fixed for value in inputs) and not equation.effects
  # A loss's own gradient is one, which does not make a constant of the rest.
  fixed = fixed and (weight or not backward)
  weight = weight and fixed
  known = fixed and all(value.content for value in inputs)

  @functools.cache
  def run():
    arrays = [value.content() for value in inputs if value.content]
    found = equation.primitive.bind(*arrays, **equation.params)
    return found if equation.primitive.multiple_results else [found]

  results = []
  for place, variable in enumerate(equation.outvars):
    value = _unknown(variable.aval)
    value.fixed, value.weight = fixed, weight
    if known:
      value.content = lambda place=place: run()[place]
    results.append(value)
  return results


def _has_zeros(value: Value) -> bool:
  """Returns whether a weight is known to hold zeros."""
  if not (value.weight and value.content):
    return False
  return int(np.count_nonzero(value.content())) < value.size


def _slice(value: Value, turn: int | None = None) -> Value:
  """Returns what one turn of a scan sees of a stacked value."""
  content = None
  if value.content and turn is not None:
    whole = value.content
    content = lambda: whole()[turn]  # noqa: E731
  return dataclasses.replace(value, shape=value.shape[1:], content=content)


def _kernel_name(params: dict[str, Any]) -> str:
  return str(params.get("name") or params.get("name_and_src_info"))
