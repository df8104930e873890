"""What any JAX function costs, from shapes alone, by its jaxpr.

Loop bodies count once for each turn and a `cond` costs its costliest branch.
`cost.arithmetic` has the convention for MACs and FLOPs, `cost.traffic` that
for bytes.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from effarch.infrastructure.cost import arithmetic
from effarch.infrastructure.cost.program import (
  Block,
  Operation,
  Value,
  read,
)
from effarch.infrastructure.cost.traffic import kept_bytes, moved_bytes

# Glob patterns of module paths, with the bits of weights and activations.
Bits = Mapping[str, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Cost:
  """What a model or a function costs, or one module's part of it.

  Args:
    params: trained numbers.
    statistics: numbers that are kept and not trained, such as BatchNorm's
      moving averages. Caches and the state of random numbers are none.
    size_bytes: of both, as they lie in memory.
    stored_bytes: of both, with weights at the bits they are quantized to.
    macs: multiply-accumulates of matrix products and convolutions.
    effective_macs: those whose weight is not zero; all, if weights are not
      known or are no arrays.
    bit_operations: the sum over MACs of the bits of one factor times the bits
      of the other (BOPs; van Baalen et al., arXiv:2005.07093).
    flops: twice the MACs and all other arithmetic.
    bytes_read: from memory, by the convention of `cost.traffic`.
    bytes_written: to memory, likewise.
    activation_bytes: kept from the forward pass for the backward pass.
    unknown: primitives that are not counted, with their number of calls.
  """

  params: int = 0
  statistics: int = 0
  size_bytes: int = 0
  stored_bytes: int = 0
  macs: int = 0
  effective_macs: int = 0
  bit_operations: int = 0
  flops: int = 0
  bytes_read: int = 0
  bytes_written: int = 0
  activation_bytes: int = 0
  unknown: dict[str, int] = dataclasses.field(default_factory=dict)

  @property
  def intensity(self) -> float:
    """FLOPs for each byte read or written."""
    moved = self.bytes_read + self.bytes_written
    return self.flops / moved if moved else 0.0

  def numbers(self) -> dict[str, int]:
    """Returns all but `unknown`."""
    return {name: getattr(self, name) for name in NUMBERS}

  def __add__(self, other: Cost) -> Cost:
    return add([self, other])


NUMBERS = tuple(
  field.name for field in dataclasses.fields(Cost) if field.name != "unknown"
)


def add(costs: Sequence[Cost]) -> Cost:
  """Returns the sum."""
  unknown = collections.Counter()
  for cost in costs:
    unknown.update(cost.unknown)
  sums = {name: sum(getattr(c, name) for c in costs) for name in NUMBERS}
  return Cost(**sums, unknown=dict(unknown))


def count(
  function: Callable[..., Any], *args: Any, while_turns: int | None = None
) -> Cost:
  """Returns what `function(*args)` costs, without running it.

  Args:
    function: anything that `jax.make_jaxpr` takes.
    *args: arrays or `jax.ShapeDtypeStruct`, or trees of them.
    while_turns: how often each `while_loop` turns whose end no shape tells.

  Raises:
    ValueError: there is such a loop and no `while_turns`, or a Pallas kernel
      without a cost estimate.
  """
  jaxpr = jax.make_jaxpr(function)(*args)
  inputs = [Value(aval.shape, aval.dtype) for aval in jaxpr.in_avals]
  return add(
    list(by_path(read(jaxpr, inputs, while_turns=while_turns)).values())
  )


def by_path(block: Block, bits: Bits | None = None) -> dict[str, Cost]:
  """Returns the cost of a program by the path of its operations.

  Args:
    block: the program.
    bits: of weights and activations where those of their types don't hold;
      of several patterns that match a path, the last one counts.
  """
  found: dict[str, list[Cost]] = collections.defaultdict(list)
  for operation in block.operations:
    if operation.bodies:
      for path, cost in _costliest(operation, bits).items():
        found[path].append(cost)
    else:
      found[operation.path].append(_operation(operation, bits))
  for path, (read_bytes, written_bytes) in moved_bytes(block).items():
    found[path].append(Cost(bytes_read=read_bytes, bytes_written=written_bytes))
  for path, kept in kept_bytes(block).items():
    found[path].append(Cost(activation_bytes=kept))
  return {path: add(costs) for path, costs in found.items()}


def factor_dtypes(block: Block) -> collections.Counter[str]:
  """Returns the MACs of a program by the type of their first factor."""
  found = collections.Counter()
  for operation in block.operations:
    for turns in itertools.chain(*operation.bodies):
      for dtype, macs in factor_dtypes(turns.block).items():
        found[dtype] += macs * turns.number
    if operation.name in arithmetic.PRODUCTS:
      dtype = operation.inputs[0].dtype.name
      found[dtype] += arithmetic.macs(operation)
  return found


def chosen_bits(path: str, bits: Bits | None) -> tuple[int, int] | None:
  """Returns the bits of weights and activations of a module, if given."""
  matching = [
    value
    for pattern, value in (bits or {}).items()
    if fnmatch.fnmatchcase(path, pattern)
  ]
  return matching[-1] if matching else None


def _operation(operation: Operation, bits: Bits | None) -> Cost:
  flops = arithmetic.flops(operation)
  if flops is None:
    return Cost(unknown={operation.name: 1})
  macs = arithmetic.macs(operation)
  if not macs:
    return Cost(flops=flops)
  factors = operation.inputs[:2]
  return Cost(
    macs=macs,
    effective_macs=min(_nonzero(macs, factor) for factor in factors),
    bit_operations=macs * math.prod(_bits(operation, f, bits) for f in factors),
    flops=flops,
  )


def _nonzero(macs: int, factor: Value) -> int:
  """Returns the MACs whose factor is not zero, where that is known."""
  if not factor.weight or factor.content is None or not factor.size:
    return macs
  # Each element is a factor in equally many.
  return macs * int(np.count_nonzero(factor.content())) // factor.size


def _bits(operation: Operation, factor: Value, bits: Bits | None) -> int:
  chosen = chosen_bits(operation.path, bits)
  return factor.bits if chosen is None else chosen[0 if factor.fixed else 1]


def _costliest(operation: Operation, bits: Bits | None) -> dict[str, Cost]:
  """Returns the cost of the way with most FLOPs, all its turns together."""
  ways = []
  for way in operation.bodies:
    costs = collections.defaultdict(Cost)
    for turns in way:
      for path, cost in by_path(turns.block, bits).items():
        costs[path] += _repeated(cost, turns.number)
    ways.append((add(list(costs.values())), costs))
  total, costs = max(
    ways,
    key=lambda way: (way[0].flops, way[0].bytes_read + way[0].bytes_written),
  )
  # A branch may seem cheap only for what is not counted in it.
  unknown = collections.Counter()
  for other, _ in ways:
    unknown |= collections.Counter(other.unknown)
  missing = unknown - collections.Counter(total.unknown)
  costs[operation.path] += Cost(unknown=dict(missing))
  return costs


def _repeated(cost: Cost, number: int) -> Cost:
  times = {name: value * number for name, value in cost.numbers().items()}
  # What one turn keeps is given back before the next.
  times["activation_bytes"] = cost.activation_bytes
  unknown = {name: calls * number for name, calls in cost.unknown.items()}
  return Cost(**times, unknown=unknown if number else {})
