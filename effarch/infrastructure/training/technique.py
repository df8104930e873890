"""The protocol by which the training loop meets techniques it doesn't know.

A batch is a dictionary: `inputs`, floats or tokens `B ...`; `labels`,
distributions over classes `B K`, or for each token `B T K`, which are zeros
where nothing is asked; `index`, the examples' places `B` in the data; and in
training `progress`, a number in [0, 1): the share of all steps that is done,
and `constants`, what techniques have made of the training data, by name.
Techniques may add entries for their own `loss` hooks.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from effarch.infrastructure.data import Dataset, decode

Batch = dict[str, Any]

# Each example's loss and metrics, `B`: the loop takes the means. In this way
# a technique can weigh examples, and evaluation is exact on a part-filled
# batch.
Losses = tuple[Float[Array, " B"], dict[str, Float[Array, " B"]]]
LossFn = Callable[[nnx.Module, Batch], Losses]

# Parameters, and all else that a model's state holds: statistics, keys.
Weights = tuple[nnx.State, nnx.State]

# From parameters and a batch to the gradients of the mean loss, with the rest
# of the model's state after the step and the means of loss and metrics.
GradientFn = Callable[
  [nnx.State, Batch],
  tuple[nnx.State, tuple[nnx.State, dict[str, Float[Array, ""]]]],
]


class State(NamedTuple):
  """All that changes from step to step.

  `averages` has the weights that each technique with an `average` hook gives.
  """

  step: Int[Array, ""]
  params: nnx.State
  rest: nnx.State
  opt_state: optax.OptState
  averages: tuple[Weights, ...] = ()

  @property
  def weights(self) -> tuple[Weights, ...]:
    """Those that are trained, and all averages; the last are what ships."""
    return (self.params, self.rest), *self.averages


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
    "index": places,
  }


class Technique:
  """What changes a model or its training, as up to eight hooks.

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

  def constants(self, train: Dataset) -> dict[str, Any]:
    """Returns trees of arrays that the batch of every step holds, by name.

    Runs once, before training. No step changes them, no checkpoint holds them,
    and evaluation doesn't get them: such as a teacher, or what it says.
    """
    del train
    return {}

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    """Returns the batch to train on. Traced, on the device, every step."""
    del rng
    return batch

  def loss(self, loss_fn: LossFn) -> LossFn:
    """Returns the training objective; evaluation keeps the plain one."""
    return loss_fn

  def gradient(self, gradient_fn: GradientFn) -> GradientFn:
    """Returns what computes the gradients. Traced, every step.

    However often it calls `gradient_fn`, each call begins with the same rest
    of the model's state, and so draws the same random numbers.
    """
    return gradient_fn

  def optimizer(
    self, tx: optax.GradientTransformation
  ) -> optax.GradientTransformation:
    """Returns the optimizer; masks and schedules can live in its state."""
    return tx

  def average(
    self, before: Weights, now: Weights, state: State, total_steps: int
  ) -> Weights:
    """Returns the weights that are judged and shipped. Traced, every step.

    Training goes on from its own weights. Who has no such hook keeps nothing.

    Args:
      before: what the hook gave a step ago; at first the initial weights.
      now: what the technique with such a hook before gives; the first gets
        what the step has made.
      state: after the step.
      total_steps: of the whole training.
    """
    del before, state, total_steps
    return now

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


def averaging(techniques: Sequence[Technique]) -> list[Technique]:
  """Returns those with an `average` hook of their own."""
  plain: Any = Technique.average
  return [each for each in techniques if type(each).average is not plain]
