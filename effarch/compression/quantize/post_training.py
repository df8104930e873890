"""Quantization of a trained model, without more training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from effarch.compression.quantize.observers import OBSERVERS
from effarch.compression.quantize.quantized import Quantized
from effarch.compression.quantize.schemes import Scheme
from effarch.config import did_you_mean


def post_training(
  model: nnx.Module,
  batches: Sequence[Array],
  *,
  observer: str = "min_max",
  **arguments: Any,
) -> Quantized:
  """Returns a model's copy that is quantized, ready to ship.

  Args:
    model: trained; best with all folded that folds.
    batches: of training inputs, from which ranges of activations are read.
    observer: a key of `OBSERVERS`, which says how.
    **arguments: those of `Quantized`.

  Raises:
    ValueError: there is no such observer, or see `Quantized`.
  """
  if not batches:
    raise ValueError("batches: there is none to calibrate with")
  example = jax.eval_shape(lambda x: x, batches[0])
  quantized = Quantized(nnx.clone(model), example, **arguments)
  calibrate(quantized, batches, observer)
  quantized.ship()
  return quantized


def _unchanged(model: nnx.Module, batches: Sequence[Array]) -> nnx.Module:
  del batches
  return model


# From a trained model, and batches to calibrate with, to what ships.
PRECISIONS: dict[str, Callable[[nnx.Module, Sequence[Array]], nnx.Module]] = {
  "float32": _unchanged,
  "int8": post_training,
  "int4": functools.partial(post_training, weights=Scheme("int4")),
  "trained": _unchanged,
}


def calibrate(
  model: Quantized, batches: Sequence[Array], observer: str = "min_max"
) -> None:
  """Sets a model's ranges of activations.

  Args:
    model: changed in place.
    batches: of training inputs.
    observer: a key of `OBSERVERS`.

  Raises:
    ValueError: there is no such observer, no batch, or a number in them that
      is none.
  """
  if observer not in OBSERVERS:
    raise ValueError(
      f"observer: {observer!r} is unknown; {did_you_mean(observer, OBSERVERS)}"
    )
  if not batches:
    raise ValueError("batches: there is none to calibrate with")
  graphdef, state = nnx.split(model)
  watched = jax.jit(lambda state, x: nnx.merge(graphdef, state).watched(x))
  observers = [OBSERVERS[observer]() for _ in range(len(model.low))]
  for batch in batches:
    found = watched(state, batch)
    for each, arrays in zip(observers, found, strict=True):
      seen = np.concatenate([np.ravel(array) for array in arrays])
      if not np.isfinite(seen).all():
        raise ValueError("batches: the model makes NaN or infinity of them")
      each.update(seen)
  levels = 256 if model.activations is None else 2**model.activations.bits
  ranges = np.asarray([each.range(levels) for each in observers], np.float32)
  ranges = ranges.reshape(-1, 2)
  demanded = model.demanded
  low, high = (
    np.where(demanded, model.low[...], ranges[:, 0]),
    np.where(demanded, model.high[...], ranges[:, 1]),
  )
  model.low[...], model.high[...] = jnp.asarray(low), jnp.asarray(high)
  model.steps_seen[...] = jnp.asarray(1, jnp.int32)
