"""Exact means of losses and metrics over a whole data set."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import mesh as meshes
from effarch.infrastructure.training.metrics import classification_loss
from effarch.infrastructure.training.technique import LossFn, make_batch


def evaluate(
  model: nnx.Module,
  dataset: Dataset,
  *,
  loss_fn: LossFn = classification_loss,
  batch_size: int = 500,
) -> dict[str, float]:
  """Returns each metric's mean over the examples, `loss` among them.

  Args:
    model: in evaluation mode.
    dataset: all of it is used, whatever the batch size.
    loss_fn: what gives each example's loss and metrics.
    batch_size: examples at a time; rounded up to fill the devices.
  """
  graphdef, state = nnx.split(model)
  state = jax.device_put(state, meshes.replicated(meshes.data_mesh()))
  return Evaluator(graphdef, dataset, loss_fn, batch_size)(state)


class Evaluator:
  """A data set on the device, ready to judge many states of one model."""

  def __init__(
    self,
    graphdef: nnx.GraphDef,
    dataset: Dataset,
    loss_fn: LossFn,
    batch_size: int,
  ):
    mesh = meshes.data_mesh()
    self._size = len(dataset)
    batch_size = min(batch_size, self._size)
    batch_size += -batch_size % mesh.size
    positions = np.arange(self._size + -self._size % batch_size)
    weights = (positions < self._size).astype(np.float32)
    # What pads the last batch is example 0 with weight 0.
    indices = np.where(positions < self._size, positions, 0)
    sharding = meshes.batch_sharding(mesh, axis=0)
    self._batches = [
      jax.device_put((i.astype(np.int32), w), sharding)
      for i, w in zip(
        np.split(indices, len(positions) // batch_size),
        np.split(weights, len(positions) // batch_size),
        strict=True,
      )
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


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _weighted_sums(
  graphdef, loss_fn, num_classes, state, arrays, indices, weights
):
  model = nnx.merge(graphdef, *state, copy=True)
  losses, metrics = loss_fn(model, make_batch(arrays, indices, num_classes))
  values = {"loss": losses, **metrics}
  return {name: jnp.sum(v * weights) for name, v in values.items()}
