"""Where a model's arrays are rounded: found in the program it is traced to.

LiteRT computes an operation in integers if every array it reads and makes is
quantized. So each array that such an operation reads or makes gets a site, but
those between an operation and the bias and activation that fuse with it. No
model says so itself: what is traced tells.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from effarch.compression.quantize import operations
from effarch.compression.quantize.operations import Kind
from effarch.compression.quantize.program import (
  Operation,
  Program,
  Site,
  Value,
)


def place(program: Program) -> None:
  """Gives a program its sites."""
  _Plan(program).place()


class _Plan:
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
    for fuses in (is_bias, _is_activation):
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
    if any(site.fixed_range for site in wanted):
      alone = len(wanted) == len(floats) and len(set(wanted)) == 1
      if not alone:
        return  # One scale can't be two.
    for value in floats:
      if not value.fixed:
        self._want(value)
        assert value.site is not None
        self._join(wanted[0], value.site)
    operation.output.site = floats[0].site or wanted[0]
    operation.constants += [
      place
      for place, value in enumerate(operation.inputs)
      if value.fixed and _is_float(value) and not _is_nothing(value)
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


def _is_nothing(value: Value) -> bool:
  """Whether this is a zero, as what is padded with, or below all numbers."""
  if value.literal is None or value.aval.shape:
    return False
  return value.literal == 0 or not np.isfinite(value.literal)


def _is_float(value: Value) -> bool:
  return jnp.issubdtype(value.aval.dtype, jnp.floating)


def is_bias(value: Value, operation: Operation, reader: Operation) -> bool:
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
