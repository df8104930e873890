"""The protocol by which the training loop meets techniques it doesn't know.

A batch is a dictionary: `inputs`, floats or tokens `B ...`, and `labels`,
distributions over classes `B K`, or for each token `B T K`, which are zeros
where nothing is asked.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import jax
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from effarch.infrastructure.data import decode

Batch = dict[str, jax.Array]

# Each example's loss and metrics, `B`: the loop takes the means. In this way
# a technique can weigh examples, and evaluation is exact on a part-filled
# batch.
Losses = tuple[Float[Array, " B"], dict[str, Float[Array, " B"]]]
LossFn = Callable[[nnx.Module, Batch], Losses]


def make_batch(
  arrays: tuple[jax.Array, jax.Array],
  places: Int[Array, " B"],
  num_classes: int,
  length: int | None = None,
) -> Batch:
  """Returns the examples at `places` of all inputs and labels.

  Args:
    arrays: all inputs and labels.
    places: of the examples.
    num_classes: `K`.
    length: as many tokens are taken; all if None.
  """
  inputs, labels = (array[places] for array in arrays)
  if length is not None:
    inputs = inputs[..., :length]
    labels = labels[:, :length] if labels.ndim > 1 else labels
  return {
    "inputs": decode(inputs),
    "labels": jax.nn.one_hot(labels, num_classes),
  }


class Technique:
  """What changes a model or its training, as up to five hooks.

  Subclasses are frozen dataclasses that override the hooks they need. Hooks
  apply in the order in which techniques are listed: the last listed wraps
  outermost. A technique that draws random numbers draws them from its `rng`
  alone, so that a resumed run repeats them.
  """

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model to train; may change it in place. Runs once.

    Args:
      model: as the techniques before have it.
      example: the shape of a batch of one example's inputs.
    """
    del example
    return model

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    """Returns the batch to train on. Traced, on the device, every step."""
    del rng
    return batch

  def loss(self, loss_fn: LossFn) -> LossFn:
    """Returns the training objective; evaluation keeps the plain one."""
    return loss_fn

  def optimizer(
    self, tx: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    """Returns the optimizer; masks and schedules can live in its state."""
    return tx

  def finish(self, model: nnx.Module) -> nnx.Module:
    """Returns what is measured and shipped, given the best trained model."""
    return model


def apply_batch_hooks(
  techniques: Sequence[Technique], batch: Batch, rng: Key[Array, ""]
) -> Batch:
  """Runs every `batch` hook with random numbers of its own.

  A technique's numbers depend on its class and on how many of that class
  stand before it, so adding another technique leaves them as they were.
  """
  seen: dict[type, int] = {}
  for technique in techniques:
    kind = type(technique)
    seen[kind] = seen.get(kind, 0) + 1
    own = jax.random.fold_in(rng, zlib.crc32(kind.__name__.encode()))
    batch = technique.batch(batch, jax.random.fold_in(own, seen[kind]))
  return batch
