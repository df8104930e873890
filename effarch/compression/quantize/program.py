"""A model's call as a list of operations, which can be run with changes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
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


def read(
  function: Callable[..., Any], parameters: Sequence[Any], x: Any
) -> Program:
  """Returns the program of a call, without sites.

  Args:
    function: from a list of parameters and one array to one array.
    parameters: arrays or their shapes.
    x: likewise, of the one array.
  """
  jaxpr = jax.make_jaxpr(function)(list(parameters), x)
  arguments = [
    Value(aval, fixed=True, sources=frozenset({place}))
    for place, aval in enumerate(jaxpr.in_avals[:-1])
  ]
  arguments.append(Value(jaxpr.in_avals[-1]))
  found: list[Operation] = []
  outputs = _read(jaxpr, arguments, found)
  return Program(arguments, found, outputs, [])


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
