"""Exact means of losses and metrics over a whole data set."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import mesh as meshes
from effarch.infrastructure.training.batches import Batches
from effarch.infrastructure.training.metrics import classification_loss
from effarch.infrastructure.training.technique import LossFn, make_batch


def evaluate(
  model: nnx.Module,
  dataset: Dataset,
  *,
  loss_fn: LossFn = classification_loss,
  batch_size: int = 500,
  buckets: Sequence[int] = (),
) -> dict[str, float]:
  """Returns each metric's mean over the examples, `loss` among them.

  Args:
    model: in evaluation mode.
    dataset: all of it is used, whatever the batch size.
    loss_fn: what gives each example's loss and metrics.
    batch_size: examples at a time; rounded up to fill the devices.
    buckets: lengths that token sequences are cut to; see `Loop`.
  """
  graphdef, state = nnx.split(model)
  state = jax.device_put(state, meshes.replicated(meshes.data_mesh()))
  return Evaluator(graphdef, dataset, loss_fn, batch_size, buckets)(state)


class Evaluator:
  """A data set on the device, ready to judge many states of one model."""

  def __init__(
    self,
    graphdef: nnx.GraphDef,
    dataset: Dataset,
    loss_fn: LossFn,
    batch_size: int,
    buckets: Sequence[int] = (),
  ):
    mesh = meshes.data_mesh()
    self._size = len(dataset)
    batch_size = min(batch_size, self._size)
    batch_size += -batch_size % mesh.size
    sharding = meshes.batch_sharding(mesh, axis=0)
    self._batches = [
      (length, *jax.device_put(batch, sharding))
      for length, *batch in Batches(dataset, buckets).all(batch_size)
    ]
    self._arrays = jax.device_put(
      (dataset.inputs, dataset.labels), meshes.replicated(mesh)
    )
    self._sums = functools.partial(
      _weighted_sums, graphdef, loss_fn, dataset.num_classes
    )

  def __call__(self, *state: nnx.State) -> dict[str, float]:
    """Returns the means for a model's state, split in any number of parts."""
    totals: dict[str, float] = {}
    sums = [self._sums(state, self._arrays, *batch) for batch in self._batches]
    for batch in jax.device_get(sums):
      for name, value in batch.items():
        totals[name] = totals.get(name, 0.0) + float(value)
    return {name: total / self._size for name, total in totals.items()}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 5))
def _weighted_sums(
  graphdef, loss_fn, num_classes, state, arrays, length, places, weights
):
  model = nnx.merge(graphdef, *state, copy=True)
  batch = make_batch(arrays, places, num_classes, length)
  losses, metrics = loss_fn(model, batch)
  values = {"loss": losses, **metrics}
  return {name: jnp.sum(v * weights) for name, v in values.items()}
