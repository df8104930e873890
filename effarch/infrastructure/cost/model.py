"""The cost of one NNX model."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
from flax import nnx

from effarch.infrastructure.cost.count import count


@dataclasses.dataclass(frozen=True)
class ModelCost:
  """What a model holds and what one call costs.

  Args:
    params: trained numbers.
    statistics: numbers that are kept and not trained, such as BatchNorm's
      moving averages. The state of random numbers is none of them.
    size_bytes: of both, as they lie in memory.
    macs: multiply-accumulates of one call.
    flops: of one call, by the convention of `count`.
  """

  params: int
  statistics: int
  size_bytes: int
  macs: int
  flops: int


def model_cost(model: nnx.Module, *inputs: Any) -> ModelCost:
  """Returns the cost of `model(*inputs)`, from shapes alone.

  Args:
    model: in evaluation mode; `nnx.eval_shape` can have made it.
    *inputs: arrays or `jax.ShapeDtypeStruct`, batch included.

  Raises:
    ValueError: the model holds a loop that can't be counted, or a primitive
      that is not known.
  """
  graphdef, params, random, rest = nnx.split(
    model, nnx.Param, nnx.RngState, ...
  )

  def call(inputs, *states):
    return nnx.merge(graphdef, *states)(*inputs)

  cost = count(call, inputs, params, random, rest)
  if cost.unknown:
    raise ValueError(f"primitives without a cost: {sorted(cost.unknown)}")
  leaves = jax.tree.leaves((params, rest))
  sizes = [math.prod(leaf.shape) for leaf in leaves]
  trained = len(jax.tree.leaves(params))
  return ModelCost(
    params=sum(sizes[:trained]),
    statistics=sum(sizes[trained:]),
    size_bytes=sum(
      size * leaf.dtype.itemsize
      for size, leaf in zip(sizes, leaves, strict=True)
    ),
    macs=cost.macs,
    flops=cost.flops,
  )
