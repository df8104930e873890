"""A model's program beside its parameters."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from effarch.compression.quantize.program import (
  Operation,
  Program,
  Value,
  read,
)
from effarch.compression.quantize.sites import is_bias, place


@dataclasses.dataclass(eq=False)
class Layer:
  """A product or convolution with a weight.

  Args:
    operation: it.
    names: paths of the parameters that its weight is made of.
    kernel: the place of the parameter that is its weight; None if the weight
      is made of several, or of one changed, or if others read it too.
    bias: likewise, of what is added to each output channel.
  """

  operation: Operation
  names: list[str]
  kernel: int | None
  bias: int | None

  @property
  def input(self) -> Value:
    """What its weight is multiplied with."""
    assert self.operation.weight is not None
    return self.operation.inputs[1 - self.operation.weight]

  def __call__(self, x: Array, weight: Array) -> Array:
    """Returns its outputs, without bias."""
    arrays = [x, weight]
    if self.operation.weight == 0:
      arrays.reverse()
    return self.operation.call(*arrays)[0]


class Traced:
  """A model's program, with sites, and its parameters.

  Args:
    model: from one batch to one array; it behaves as in evaluation.
    x: a batch, or its shape.
  """

  def __init__(self, model: nnx.Module, x: Any):
    graphdef, state = nnx.split(model)
    self.leaves, self._tree = jax.tree.flatten(state)
    paths = nnx.to_flat_state(state)
    self._paths = [".".join(map(str, path)) for path, _ in paths]

    def call(leaves, x):
      copy = nnx.merge(graphdef, self._tree.unflatten(leaves))
      copy.eval()
      return copy(x)

    self.program: Program = read(call, self.leaves, x)
    place(self.program)
    self.layers = [self._layer(each) for each in self.program.contractions]

  def state(self) -> nnx.State:
    """Returns the parameters, as a state of the model."""
    return self._tree.unflatten(self.leaves)

  def inputs(self, x: Array) -> list[Array]:
    """Returns what each layer's weight is multiplied with."""

    @jax.jit
    def watch(leaves, x):
      found: dict[Value, Array] = {}

      def keep(_, value, array):
        found[value] = array
        return array

      self.program([*leaves, x], keep, _unchanged)
      return [found[layer.input] for layer in self.layers]

    return watch(self.leaves, x)

  def weights(self) -> list[Array]:
    """Returns each layer's weight."""
    given = self.program.arguments[-1].aval

    @jax.jit
    def watch(leaves):
      found = {}

      def keep(operation, place, array):
        if place == operation.weight:
          found[operation] = array
        return array

      x = jnp.zeros(given.shape, given.dtype)
      self.program([*leaves, x], lambda _, __, array: array, keep)
      return [found[layer.operation] for layer in self.layers]

    return watch(self.leaves)

  def _layer(self, operation: Operation) -> Layer:
    assert operation.weight is not None
    weight = operation.inputs[operation.weight]
    bias = None
    arguments = self.program.arguments
    if len(operation.output.readers) == 1:
      (reader,) = operation.output.readers
      if is_bias(operation.output, operation, reader):
        (added,) = (v for v in reader.inputs if v is not operation.output)
        size = operation.output.aval.shape[-1]
        if len(added.sources) == 1:
          (source,) = added.sources
          given = arguments[source]
          own = given.aval.shape == (size,) and len(given.readers) == 1
          bias = source if own else None
    own = weight in arguments and len(weight.readers) == 1
    return Layer(
      operation,
      [self._paths[place] for place in sorted(weight.sources)],
      arguments.index(weight) if own else None,
      bias,
    )


def _unchanged(_: Operation, __: int, array: Array) -> Array:
  return array
