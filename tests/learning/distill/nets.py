"""A small model, and data that it can learn."""

import numpy as np
from flax import nnx

from effarch.infrastructure.data import Dataset


class Net(nnx.Module):
  """Layers with everything that a state can hold, and a classifier."""

  def __init__(self, rngs, *, features=6, depth=2, num_classes=3):
    self.layers = nnx.List(
      [
        nnx.Linear(4 if not n else features, features, rngs=rngs)
        for n in range(depth)
      ]
    )
    self.norm = nnx.BatchNorm(features, rngs=rngs)
    self.dropout = nnx.Dropout(0.2, rngs=rngs)
    self.out = nnx.Linear(features, num_classes, rngs=rngs)

  def __call__(self, x):
    for layer in self.layers:
      x = nnx.relu(layer(x))
    return self.out(self.dropout(self.norm(x)))


def blobs(size, seed=0):
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, 3, size).astype(np.int32)
  inputs = generator.normal(size=(size, 4)) + labels[:, None]
  return Dataset(inputs.astype(np.float32), labels, ("a", "b", "c"))
