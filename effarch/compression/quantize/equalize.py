"""What a trained model can be changed to before it is quantized.

Cross-layer equalization and bias correction of *Data-Free Quantization through
Weight Equalization and Bias Correction* (arXiv:1906.04721).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from effarch.compression.quantize.operations import Kind
from effarch.compression.quantize.quantized import Quantized
from effarch.compression.quantize.traced import Layer, Traced

# What passes a positive factor of each channel on.
_HOMOGENEOUS = (
  "add",
  "div",
  "max_pool",
  "reduce_sum",
  "reduce_window_max",
  "relu",
)
_ROUNDS = 20


def equalize(
  model: nnx.Module, x: jax.ShapeDtypeStruct
) -> list[tuple[str, str]]:
  """Shares out the ranges of weights between layers that follow each other.

  The model computes what it did: what a channel's weights are divided by, the
  next layer's are multiplied with. Between two such layers are at most biases,
  ReLU and pools.

  Args:
    model: folded; changed in place.
    x: the shape of a batch.

  Returns:
    The paths of the weights of each pair.
  """
  traced = Traced(model, x)
  pairs = []
  for first in traced.layers:
    second = _next(traced, first)
    if second is not None:
      pairs.append((first, *second))
  for _ in range(_ROUNDS):
    for first, second, axis in pairs:
      _share(traced.leaves, first, second, axis)
  nnx.update(model, traced.state())
  return [(first.names[0], second.names[0]) for first, second, _ in pairs]


def _next(traced: Traced, first: Layer) -> tuple[Layer, int] | None:
  """Returns the layer that alone reads another's channels, and their axis."""
  if first.kernel is None or first.operation.axis is None:
    return None
  value, width = first.operation.output, first.operation.output.aval.shape[-1]
  biased = False
  while len(value.readers) == 1:
    (reader,) = value.readers
    for layer in traced.layers:
      if layer.operation is reader:
        return _axis_of(traced, layer, width)
    others = [each for each in reader.inputs if each is not value]
    if reader.name not in _HOMOGENEOUS or not all(v.fixed for v in others):
      return None
    if reader.name.startswith("reduce") and reader.kind is Kind.OTHER:
      return None  # Over channels.
    if reader.name == "add" and (biased or first.bias is None):
      return None
    biased |= reader.name == "add"
    value = reader.output
    if value.aval.shape[-1] != width:
      return None
  return None


def _axis_of(
  traced: Traced, layer: Layer, width: int
) -> tuple[Layer, int] | None:
  """Returns a layer with the axis of its weight that has its inputs."""
  if layer.kernel is None or layer.operation.axis is None:
    return None
  shape = traced.leaves[layer.kernel].shape
  if shape[-1] != layer.operation.output.aval.shape[-1]:
    return None
  if shape[-2] == width:
    return layer, len(shape) - 2
  if shape[-2] == 1 and shape[-1] == width:  # Depthwise.
    return layer, len(shape) - 1
  return None


def _share(leaves: list[Array], first: Layer, second: Layer, axis: int) -> None:
  assert first.kernel is not None
  assert second.kernel is not None
  assert first.operation.axis is not None
  ranges = []
  for place, own in (
    *((first.kernel, first.operation.axis), (second.kernel, axis)),
  ):
    weight = jnp.moveaxis(leaves[place], own, -1)
    ranges.append(jnp.abs(weight.reshape(-1, weight.shape[-1])).max(0))
  factor = jnp.sqrt(ranges[0] / ranges[1])
  # A channel without weights on either side has no range to share.
  factor = jnp.where((ranges[0] > 0) & (ranges[1] > 0), factor, 1)
  for place, own, change in (
    (first.kernel, first.operation.axis, 1 / factor),
    (second.kernel, axis, factor),
  ):
    shape = [1] * leaves[place].ndim
    shape[own] = -1
    leaves[place] = leaves[place] * change.reshape(shape)
  if first.bias is not None:
    leaves[first.bias] = leaves[first.bias] / factor


def correct_biases(
  model: Quantized, trained: nnx.Module, x: Array
) -> list[str]:
  """Makes good what rounding does to the mean of each channel.

  Args:
    model: changed in place.
    trained: what it was made of, unrounded.
    x: training inputs.

  Returns:
    The paths of the weights whose layers have no bias that could.
  """
  traced, plain = Traced(model.model, x), Traced(trained, x)
  inputs, wanted, weights = plain.inputs(x), plain.weights(), traced.weights()
  left = []
  for place, layer in enumerate(traced.layers):
    if layer.bias is None:
      left += layer.names
      continue
    rounded = model.rounded_weight(place, layer.operation.axis, weights[place])
    before, after = (layer(inputs[place], w) for w in (wanted[place], rounded))
    axes = tuple(range(before.ndim - 1))
    change = (before - after).mean(axes)
    traced.leaves[layer.bias] = plain.leaves[layer.bias] + change
  nnx.update(model.model, traced.state())
  return left
