"""Bytes that a program moves, and those it keeps for its backward pass.

An operation reads each of its inputs from memory once and writes each of its
outputs once, but

- element-wise operations are fused: what only they make and read is never
  written, and each module reads a value once for all of them;
- broadcasts, reshapes and the like move nothing, nor do literals;
- slices and gathers read what they take out, scatters and updates write what
  they put in;
- a Pallas kernel moves what its cost estimate says.

So the bytes are those of a compiler that fuses element-wise operations, and
nothing else. Loops move what their bodies move, in each turn.
"""

from __future__ import annotations

import collections
from collections.abc import Callable

from effarch.infrastructure.cost import arithmetic
from effarch.infrastructure.cost.program import Block, Operation, Value

_FUSED = arithmetic.ELEMENTWISE | arithmetic.CASTING


def moved_bytes(block: Block) -> dict[str, tuple[int, int]]:
  """Returns bytes read and written by path, without those of loop bodies."""
  source = _sources(block)
  working = [o for o in block.operations if o.name not in arithmetic.VIEWS]
  made = {value for operation in working for value in operation.outputs}
  stored = {source(value) for value in block.outputs}
  for operation in working:
    if operation.name not in _FUSED:
      stored.update(operation.outputs, map(source, operation.inputs))

  read, written = collections.Counter(), collections.Counter()
  passed = set()
  for operation in working:
    if operation.bodies:
      continue
    path = operation.path
    inputs = [source(value) for value in operation.inputs]
    if operation.name in _FUSED:
      fresh = {v for v in inputs if (path, v) not in passed}
      passed.update((path, value) for value in fresh)
      read[path] += _bytes(v for v in fresh if v in stored or v not in made)
      written[path] += _bytes(v for v in operation.outputs if v in stored)
    else:
      own_read, own_written = _alone(operation, inputs)
      read[path] += own_read
      written[path] += own_written
  return {path: (read[path], written[path]) for path in read | written}


def kept_bytes(block: Block) -> dict[str, int]:
  """Returns bytes of what forward makes and backward reads, by maker's path.

  Parameters, and what is computed from them alone, are not counted, nor are
  the program's own inputs.
  """
  source = _sources(block)
  makers: dict[Value, Operation] = {}
  found = collections.Counter()
  kept = set()
  for operation in block.operations:
    if not operation.backward:
      makers.update(dict.fromkeys(operation.outputs, operation))
      continue
    for value in map(source, operation.inputs):
      if value in makers and value not in kept and not value.fixed:
        kept.add(value)
        found[_maker(makers[value], value)] += value.nbytes
  return dict(found)


def _maker(operation: Operation, value: Value) -> str:
  """Returns the path of what makes a value, in a loop that of its last body."""
  if not operation.bodies:
    return operation.path
  block = operation.bodies[0][-1].block
  made = _sources(block)(block.outputs[operation.outputs.index(value)])
  for inner in block.operations:
    if made in inner.outputs:
      return _maker(inner, made)
  return operation.path


def _alone(operation: Operation, inputs: list[Value]) -> tuple[int, int]:
  """Returns the bytes of an operation that is not fused with others."""
  name, written = operation.name, _bytes(operation.outputs)
  if name == "pallas_call":
    moved = operation.params["cost_estimate"].bytes_accessed
    written = min(moved, written)
    return moved - written, written
  if name in ("dynamic_slice", "gather", "slice"):
    return written + _bytes(inputs[1:]), written
  if name == "dynamic_update_slice":
    return _bytes(inputs[1:]), inputs[1].nbytes
  if name.startswith("scatter"):
    added = 0 if name == "scatter" else inputs[2].nbytes  # What was there.
    return _bytes(inputs[1:]) + added, inputs[2].nbytes
  return _bytes(inputs), written


def _sources(block: Block) -> Callable[[Value], Value]:
  """Returns a function from a view to the value that it is a view of."""
  source: dict[Value, Value] = {}
  for operation in block.operations:
    if operation.name in arithmetic.VIEWS:
      pairs = zip(operation.outputs, operation.inputs, strict=False)
      source.update((made, source.get(seen, seen)) for made, seen in pairs)
  return lambda value: source.get(value, value)


def _bytes(values) -> int:
  return sum(value.nbytes for value in values if not value.literal)
