"""Which weights get how many bits, under a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from effarch.compression.quantize.schemes import Scheme
from effarch.compression.quantize.traced import Layer, Traced

_ACTIVATION_BITS = 8


def weight_bytes(layer: Layer, scheme: Scheme) -> float:
  """Returns the bytes of a layer's weight."""
  assert layer.operation.weight is not None
  shape = layer.operation.inputs[layer.operation.weight].aval.shape
  return math.prod(shape) * scheme.bits / 8


def bit_operations(layer: Layer, scheme: Scheme) -> float:
  """Returns MACs times the bits of weights and activations, of one example."""
  operation = layer.operation
  assert operation.weight is not None
  weight = operation.inputs[operation.weight].aval.shape
  outputs = operation.output.aval.shape
  axis = operation.axis
  inputs = math.prod(weight) // (1 if axis is None else weight[axis])
  macs = math.prod(outputs[1:]) * inputs
  return float(macs * scheme.bits * _ACTIVATION_BITS)


COSTS: dict[str, Callable[[Layer, Scheme], float]] = {
  "bytes": weight_bytes,
  "bit_operations": bit_operations,
}


def choose(
  model: nnx.Module,
  x: Array,
  budget: int | float,
  *,
  cost: str = "bytes",
  schemes: Sequence[Scheme] = (Scheme("int8"), Scheme("int4")),
) -> dict[str, Scheme]:
  """Returns a scheme for each weight, those that hurt least the cheapest.

  What a scheme hurts is the Kullback-Leibler divergence of the classes, of the
  model from that with one weight rounded. From the finest schemes on, what
  hurts least for what it saves is taken, until the budget is met; hurts are
  taken to add up (HAWQ-V3, arXiv:2011.10680).

  Args:
    model: trained and folded, from a batch to logits.
    x: training inputs.
    budget: of all weights together.
    cost: a key of `COSTS`.
    schemes: from the finest to the coarsest.

  Returns:
    What `Quantized` takes as `layers`.

  Raises:
    ValueError: the coarsest schemes cost more than the budget.
  """
  traced = Traced(model, x)
  hurts = _sensitivities(traced, x, schemes)
  prices = [[COSTS[cost](each, s) for s in schemes] for each in traced.layers]
  chosen = [0] * len(traced.layers)

  def total():
    return sum(row[c] for row, c in zip(prices, chosen, strict=True))

  while total() > budget:
    moves = [
      (
        (hurts[n][c] - hurts[n][chosen[n]]) / (prices[n][chosen[n]] - price),
        *(n, c),
      )
      for n, row in enumerate(prices)
      for c, price in enumerate(row)
      if price < row[chosen[n]]
    ]
    if not moves:
      raise ValueError(
        f"budget: {budget:,.0f} is less than the {total():,.0f} of the "
        "coarsest schemes"
      )
    _, place, choice = min(moves)
    chosen[place] = choice
  return {
    name: schemes[choice]
    for layer, choice in zip(traced.layers, chosen, strict=True)
    for name in layer.names
  }


def _sensitivities(
  traced: Traced, x: Array, schemes: Sequence[Scheme]
) -> list[list[float]]:
  """Returns what each scheme hurts of each layer."""
  weights = traced.weights()

  @jax.jit
  def log_classes(weights):
    places = {
      layer.operation: weight
      for layer, weight in zip(traced.layers, weights, strict=True)
    }

    def constant(operation, place, array):
      return places[operation] if place == operation.weight else array

    (logits,) = traced.program(
      [*traced.leaves, x], lambda _, __, array: array, constant
    )
    return jax.nn.log_softmax(logits)

  expected = log_classes(weights)
  rows = []
  for place, layer in enumerate(traced.layers):
    row = []
    for scheme in schemes:
      changed = list(weights)
      changed[place] = _rounded(scheme, weights[place], layer.operation.axis)
      terms = jnp.exp(expected) * (expected - log_classes(changed))
      row.append(float(terms.sum(-1).mean()))
    rows.append(row)
  return rows


def _rounded(scheme: Scheme, weight: Array, axis: int | None) -> Array:
  x = scheme.arrange(weight, axis)
  x = scheme.fake(x, *scheme.parameters(*scheme.range_of(x, axis)))
  return scheme.restore(x, weight.shape, axis)
