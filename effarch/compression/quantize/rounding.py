"""Weights rounded so that a layer's outputs change least, not its weights.

Axes: `F` output channels, `I` numbers of a channel's weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from effarch.compression.quantize.quantized import Quantized, Range
from effarch.compression.quantize.schemes import Scheme
from effarch.compression.quantize.traced import Layer, Traced
from effarch.config import did_you_mean

# Of the rectified sigmoid that ends at whole numbers (arXiv:1712.01312).
_STRETCH = (-0.1, 1.1)
# The part of the steps without penalty.
_FREE = 0.2


def adaround(
  layer: Callable[[Array, Array], Array],
  x: Array,
  weight: Array,
  scheme: Scheme,
  axis: int,
  *,
  steps: int = 300,
  learning_rate: float = 0.03,
  strength: float = 10.0,
) -> Array:
  """Returns a weight on the grid, each number rounded up or down as learned.

  What rounds is learned by the error of the layer's outputs and a penalty for
  what is neither up nor down (AdaRound, arXiv:2004.10568).

  Args:
    layer: from inputs and weight to outputs, linear in the weight.
    x: inputs.
    weight: of the trained model.
    scheme: of integers.
    axis: of the weight's output channels.
    steps: of Adam.
    learning_rate: of Adam.
    strength: of the penalty, as a part of nearest rounding's error.
  """
  arranged = scheme.arrange(weight, axis)
  scale, zero = scheme.parameters(*scheme.range_of(arranged, axis))
  least, most = (end - zero for end in scheme.levels)
  below = jnp.floor(arranged / scale)

  def rounded(up):
    level = jnp.clip(below + up, least, most)
    return scheme.restore(level * scale, weight.shape, axis)

  target = layer(x, weight)

  def error(candidate):
    return jnp.square(layer(x, candidate) - target).mean()

  nearest = scheme.restore(
    scheme.fake(arranged, scale, zero), weight.shape, axis
  )
  unit = jnp.maximum(error(nearest), 1e-20)
  low, high = _STRETCH

  def up_of(v):
    return jnp.clip(jax.nn.sigmoid(v) * (high - low) + low, 0, 1)

  part = jnp.clip(arranged / scale - below, 0.01, 0.99)
  v = jax.scipy.special.logit((part - low) / (high - low))
  tx = optax.adam(learning_rate)

  @jax.jit
  def step(v, state, strength, sharpness):
    def loss(v):
      up = up_of(v)
      undecided = (1 - jnp.abs(2 * up - 1) ** sharpness).mean()
      return error(rounded(up)) / unit + strength * undecided

    updates, state = tx.update(jax.grad(loss)(v), state)
    return optax.apply_updates(v, updates), state

  state = tx.init(v)
  for number in range(steps):
    # At first the error alone decides.
    done = number / steps
    weighed = strength * (done >= _FREE)
    sharpness = 20 - 18 * max(0.0, done - _FREE) / (1 - _FREE)
    v, state = step(v, state, weighed, sharpness)
  found = rounded((up_of(v) >= 0.5).astype(weight.dtype))
  return jnp.where(error(found) < error(nearest), found, nearest)


def gptq(
  layer: Callable[[Array, Array], Array],
  x: Array,
  weight: Array,
  scheme: Scheme,
  axis: int,
  *,
  damping: float = 0.01,
) -> Array:
  """Returns a weight on the grid, each error made good by what is left.

  Numbers are rounded one after another; those to come change so that the
  outputs stay (GPTQ, arXiv:2210.17323).

  Args:
    layer: from inputs and weight to outputs, linear in the weight.
    x: inputs.
    weight: of the trained model.
    scheme: of integers.
    axis: of the weight's output channels.
    damping: added to the Hessian's diagonal, as a part of its mean.
  """
  hessian = _hessian(layer, x, weight, axis)
  number = hessian.shape[-1]
  mean = np.maximum(np.einsum("fii->f", hessian) / number, 1e-12)
  hessian = hessian + damping * mean[:, None, None] * np.eye(number)
  # The inverse's upper Cholesky factor.
  upper = np.linalg.cholesky(np.linalg.inv(hessian)).swapaxes(-1, -2)
  arranged = scheme.arrange(weight, axis)
  scale, zero = scheme.parameters(*scheme.range_of(arranged, axis))
  spread = jnp.broadcast_to(scale, arranged.shape)
  steps = _rows(scheme.restore(spread, weight.shape, axis), axis)
  least, most = (end - float(np.ravel(zero)[0]) for end in scheme.levels)
  left = _rows(weight, axis)
  found, pruned = np.empty_like(left), left == 0
  for place in range(number):
    step = steps[:, place]
    level = np.clip(np.round(left[:, place] / step), least, most)
    # What is pruned stays so.
    found[:, place] = np.where(pruned[:, place], 0, level * step)
    error = (left[:, place] - found[:, place]) / upper[:, place, place]
    left[:, place:] -= error[:, None] * upper[:, place, place:]
  moved = np.moveaxis(np.asarray(weight), axis, 0).shape
  back = np.moveaxis(found.reshape(moved), 0, axis)
  return jnp.asarray(back, weight.dtype)


def _rows(weight: Any, axis: int) -> np.ndarray:
  """Returns a weight as `F I`."""
  weight = np.moveaxis(np.asarray(weight, np.float64), axis, 0)
  return weight.reshape(len(weight), -1)


def _hessian(
  layer: Callable[[Array, Array], Array], x: Array, weight: Array, axis: int
) -> np.ndarray:
  """Returns the Hessian of half the squared outputs, `F I I` or `1 I I`.

  Each call finds a column for each output channel: a different one if all
  channels have the same Hessian, else the same.
  """

  @jax.jit
  def columns(probe):
    outputs, back = jax.vjp(lambda weight: layer(x, weight), probe)
    return back(outputs)[0]

  features = weight.shape[axis]
  rows = weight.size // features
  moved = np.moveaxis(np.asarray(weight), axis, 0).shape

  def ask(places):
    probe = np.zeros((features, rows))
    probe[np.arange(features), places] = 1
    probe = np.moveaxis(probe.reshape(moved), 0, axis)
    return _rows(columns(jnp.asarray(probe, weight.dtype)), axis)

  first = ask(np.zeros(features, int))
  if np.allclose(first, first[:1], rtol=1e-4, atol=1e-5 * np.abs(first).max()):
    found = np.empty((1, rows, rows))
    for start in range(0, rows, features):
      places = np.minimum(np.arange(start, start + features), rows - 1)
      found[0, places] = ask(places)
  else:
    found = np.stack(
      [ask(np.full(features, place)) for place in range(rows)], 1
    )
  return (found + found.swapaxes(-1, -2)) / 2


ROUNDINGS = {"adaround": adaround, "gptq": gptq}


def round_weights(
  model: Quantized,
  x: Array,
  method: str = "gptq",
  **arguments: Any,
) -> list[str]:
  """Rounds a calibrated model's weights by what they do to outputs.

  Args:
    model: changed in place; its scales stay as they are then.
    x: training inputs.
    method: a key of `ROUNDINGS`.
    **arguments: of the method.

  Returns:
    The paths of those weights that stay rounded to the nearest, since they are
    made of several parameters, or read by several layers, or have one scale.

  Raises:
    ValueError: there is no such method.
  """
  if method not in ROUNDINGS:
    raise ValueError(
      f"method: {method!r} is unknown; {did_you_mean(method, ROUNDINGS)}"
    )
  traced = Traced(model.model, x)
  parts = zip(traced.layers, model.weights, traced.inputs(x), strict=True)
  left = []
  for place, (layer, scheme, given) in enumerate(parts):
    if scheme is None:
      continue
    if not _is_roundable(layer, scheme):
      left += layer.names
      continue
    assert layer.kernel is not None
    axis = layer.operation.axis
    assert axis is not None
    weight = traced.leaves[layer.kernel]
    arranged = scheme.arrange(weight, axis)
    scale, _ = scheme.parameters(*scheme.range_of(arranged, axis))
    traced.leaves[layer.kernel] = ROUNDINGS[method](
      layer, given, weight, scheme, axis, **arguments
    )
    model.scales[str(place)] = Range(scale)
  nnx.update(model.model, traced.state())
  return left


def _is_roundable(layer: Layer, scheme: Scheme) -> bool:
  integers = scheme.dtype in ("int8", "int4", "int2", "ternary")
  known = layer.kernel is not None and layer.operation.axis is not None
  return known and integers and scheme.symmetric
