"""Where a model's arrays are rounded: found in the program it is traced to.

LiteRT computes an operation in integers if every array it reads and makes is
quantized. So each array that such an operation reads or makes gets a site, but
those between an operation and the bias and activation that fuse with it. No
model says so itself: what is traced tells.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend import core

from effarch.compression.quantize import operations
from effarch.compression.quantize.operations import Kind


@dataclasses.dataclass(eq=False)
class Value:
  """An array that the program reads or makes.

  Args:
    aval: its shape and type.
    fixed: parameters and constants alone tell it.
    sources: the places of the arguments that it is made of, if fixed.
    literal: the number itself, if it is part of the program.
    site: where it is rounded.
    maker: the name of the operation that made it.
    readers: operations that read it.
  """

  aval: Any
  fixed: bool = False
  sources: frozenset[int] = frozenset()
  literal: Any = None
  site: Site | None = None
  maker: str = ""
  readers: list[Operation] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Site:
  """A place where activations are rounded, all of them with one scale.

  Args:
    fixed_range: the range that LiteRT's kernels demand.
    makers: values that the range must hold; what only moves them is not here.
  """

  fixed_range: tuple[float, float] | None = None
  makers: list[Value] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Operation:
  """One equation.

  Args:
    call: computes it.
    kind: what it is to the runtime.
    name: of the primitive, or of what is called.
    inputs: what it reads.
    outputs: what it makes.
    weight: the place of the input that is a contraction's weight.
    axis: of the weight's output channels; there may be none.
    constants: places of inputs that are rounded by themselves, as tensors.
  """

  call: Callable[..., Sequence[Any]]
  kind: Kind
  name: str
  inputs: list[Value]
  outputs: list[Value]
  weight: int | None = None
  axis: int | None = None
  constants: list[int] = dataclasses.field(default_factory=list)

  @property
  def output(self) -> Value:
    return self.outputs[0]


@dataclasses.dataclass(eq=False)
class Program:
  """What a function does, operation by operation.

  Args:
    arguments: parameters, then inputs.
    operations: in order.
    outputs: what it returns.
    sites: of activations, in order.
  """

  arguments: list[Value]
  operations: list[Operation]
  outputs: list[Value]
  sites: list[Site]

  @property
  def contractions(self) -> list[Operation]:
    """Those with a weight, in order."""
    return [each for each in self.operations if each.weight is not None]

  def __call__(
    self,
    arguments: Sequence[Any],
    activation: Callable[[Site, Value, Any], Any],
    constant: Callable[[Operation, int, Any], Any],
  ) -> list[Any]:
    """Runs the program.

    Args:
      arguments: parameters, then inputs.
      activation: gets what a site sees, and returns what takes its place.
      constant: likewise, of a weight or another constant that an operation
        reads at a place.
    """
    found: dict[Value, Any] = {}

    def keep(value, array):
      if value.site is not None:
        array = activation(value.site, value, array)
      found[value] = array

    for value, array in zip(self.arguments, arguments, strict=True):
      keep(value, array)
    for each in self.operations:
      arrays = [
        value.literal if value.literal is not None else found[value]
        for value in each.inputs
      ]
      for place in (each.weight, *each.constants):
        if place is not None:
          arrays[place] = constant(each, place, arrays[place])
      with now(*arrays):
        made = each.call(*arrays)
      for value, array in zip(each.outputs, made, strict=True):
        keep(value, array)
    return [
      value.literal if value.literal is not None else found[value]
      for value in self.outputs
    ]


def now(*arrays: Any) -> contextlib.AbstractContextManager[None]:
  """Returns a context that computes at once what is known while tracing."""
  if any(isinstance(each, Tracer) for each in arrays):
    return contextlib.nullcontext()
  return jax.ensure_compile_time_eval()


def trace(
  function: Callable[..., Any], parameters: Sequence[Any], inputs: Any
) -> Program:
  """Returns the program of a call, with its sites.

  Args:
    function: from a list of parameters and one array to one array.
    parameters: arrays or their shapes.
    inputs: likewise, of the one array.
  """
  jaxpr = jax.make_jaxpr(function)(list(parameters), inputs)
  arguments = [
    Value(aval, fixed=True, sources=frozenset({place}))
    for place, aval in enumerate(jaxpr.in_avals[:-1])
  ]
  arguments.append(Value(jaxpr.in_avals[-1]))
  found: list[Operation] = []
  outputs = _read(jaxpr, arguments, found)
  program = Program(arguments, found, outputs, [])
  _Plan(program).place()
  return program


def _read(
  jaxpr: Any, inputs: Sequence[Value], operations_: list[Operation]
) -> list[Value]:
  """Appends a jaxpr's operations; returns its outputs."""
  values = dict(zip(jaxpr.jaxpr.invars, inputs, strict=True))
  for variable, array in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True):
    values[variable] = Value(jax.typeof(array), fixed=True, literal=array)

  def value(variable):
    if isinstance(variable, core.Literal):
      return Value(variable.aval, fixed=True, literal=variable.val)
    return values[variable]

  for equation in jaxpr.eqns:
    read = [value(variable) for variable in equation.invars]
    fixed = all(each.fixed for each in read) and not equation.effects
    called = operations.inlined(equation)
    if called is not None:
      made = _read(called, read, operations_)
    else:
      sources = frozenset[int]().union(*(each.sources for each in read))
      made = [
        Value(
          variable.aval,
          fixed,
          sources if fixed else frozenset(),
          maker=operations.name_of(equation),
        )
        for variable in equation.outvars
      ]
      one = Operation(
        operations.caller(equation),
        operations.kind_of(equation) if not fixed else Kind.OTHER,
        operations.name_of(equation),
        *(read, made),
      )
      if one.kind is Kind.CONTRACTION:
        _find_weight(one, equation)
      for each in read:
        each.readers.append(one)
      operations_.append(one)
    values.update(zip(equation.outvars, made, strict=True))
  return [value(variable) for variable in jaxpr.jaxpr.outvars]


def _find_weight(operation: Operation, equation: Any) -> None:
  fixed = [place for place, v in enumerate(operation.inputs) if v.fixed]
  if fixed:
    (operation.weight,) = fixed
    operation.axis = operations.output_axis(equation, operation.weight)


class _Plan:
  """Finds the sites of a program."""

  def __init__(self, program: Program):
    self._program = program
    self._fused: set[Operation] = set()

  def place(self) -> None:
    *_, given = self._program.arguments
    if _is_float(given):
      self._want(given)
    self._settle()
    for operation in self._program.operations:
      if operation in self._fused:
        continue
      if operation.kind is Kind.MOVE:
        self._move(operation)
      elif operation.kind is not Kind.OTHER:
        self._compute(operation)
    sites = dict.fromkeys(
      value.site for value in self._values() if value.site is not None
    )
    self._program.sites = list(sites)

  def _settle(self) -> None:
    """Leaves to float what only float surrounds."""
    operations_ = self._program.operations
    for each in operations_:
      if _is_mean(each):
        each.kind = Kind.ACTIVATION
    integer = {self._program.arguments[-1]}
    for each in operations_:
      if each.kind is Kind.CONTRACTION:
        integer.add(each.output)
      elif each.kind is not Kind.OTHER:
        floats = all(map(_is_float, (*each.inputs, each.output)))
        known = all(v in integer or v.fixed for v in each.inputs)
        if floats and known:
          integer.update(each.outputs)
        else:
          each.kind = Kind.OTHER
    for each in reversed(operations_):
      if each.kind in (Kind.COMPUTE, Kind.ACTIVATION, Kind.MOVE):
        last = each.output in self._program.outputs
        if not last and all(r.kind is Kind.OTHER for r in each.output.readers):
          each.kind = Kind.OTHER

  def _compute(self, operation: Operation) -> None:
    value = self._end(operation)
    for place, given in enumerate(operation.inputs):
      if not given.fixed:
        self._want(given)
      elif place != operation.weight:
        operation.constants.append(place)
    self._want(value, operations.RANGES.get(operation.name))

  def _end(self, operation: Operation) -> Value:
    """Returns what comes out once all that fuses with it is done."""
    value = operation.output
    for fuses in (_is_bias, _is_activation):
      if len(value.readers) == 1 and fuses(value, operation, value.readers[0]):
        (reader,) = value.readers
        self._fused.add(reader)
        value = reader.output
    return value

  def _move(self, operation: Operation) -> None:
    """What is only moved keeps its scale."""
    floats = [value for value in operation.inputs if _is_float(value)]
    wanted = [value.site for value in floats if value.site is not None]
    if not wanted or not _is_float(operation.output):
      return
    for value in floats:
      if not value.fixed:
        self._want(value)
        assert value.site is not None
        self._join(wanted[0], value.site)
    operation.output.site = floats[0].site or wanted[0]
    operation.constants += [
      place
      for place, value in enumerate(operation.inputs)
      if value.fixed and _is_float(value) and value.aval.shape
    ]

  def _join(self, site: Site, other: Site) -> None:
    if site is other:
      return
    site.makers += other.makers
    for value in self._values():
      if value.site is other:
        value.site = site

  def _want(
    self, value: Value, fixed_range: tuple[float, float] | None = None
  ) -> None:
    if value.site is None:
      value.site = Site(fixed_range, [value])

  def _values(self) -> Iterator[Value]:
    yield from self._program.arguments
    for operation in self._program.operations:
      yield from operation.outputs


def _is_float(value: Value) -> bool:
  return jnp.issubdtype(value.aval.dtype, jnp.floating)


def _is_bias(value: Value, operation: Operation, reader: Operation) -> bool:
  """Whether `reader` adds a number for each channel to a product."""
  if operation.weight is None or reader.name != "add":
    return False
  (other,) = (each for each in reader.inputs if each is not value)
  sizes = other.aval.shape
  return other.fixed and all(size == 1 for size in sizes[:-1])


def _is_mean(operation: Operation) -> bool:
  """Whether this makes a mean of a sum that nobody else reads."""
  if operation.name != "div":
    return False
  total, count = operation.inputs
  sums = total.maker in ("reduce_sum", "reduce_window_sum")
  return sums and count.fixed and len(total.readers) == 1


def _is_activation(
  value: Value, operation: Operation, reader: Operation
) -> bool:
  del value, operation
  return reader.kind is Kind.ACTIVATION
