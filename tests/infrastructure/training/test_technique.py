"""What techniques find in every step's batch beside examples."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import Loop, RunFolder, Technique, fit


@dataclasses.dataclass(frozen=True)
class Memory(Technique):
  """Shows how far the data that it noted is from the inputs, as a metric."""

  shift: float

  def constants(self, train):
    noted = jnp.asarray(train.inputs) + self.shift
    return {f"memory of {self.shift}": (noted, {"size": len(train)})}

  def loss(self, loss_fn):
    def shown(model, batch):
      noted, known = batch["constants"][f"memory of {self.shift}"]
      gap = noted[batch["index"]] - batch["inputs"]
      losses, metrics = loss_fn(model, batch)
      name = f"gap {self.shift}"
      return losses, {**metrics, name: gap.mean(-1) * known["size"]}

    return shown


@dataclasses.dataclass(frozen=True)
class Clock(Technique):
  """Shows the share of the training that is done as a metric."""

  def loss(self, loss_fn):
    def shown(model, batch):
      losses, metrics = loss_fn(model, batch)
      share = jnp.full(len(losses), batch["progress"])
      return losses, {**metrics, "progress": share}

    return shown


def trained(folder, loop, *techniques):
  """Returns the lines that a training of 40 examples leaves."""
  inputs = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
  data = Dataset(inputs, np.arange(40, dtype=np.int32) % 2, ("a", "b"))
  fit(
    nnx.Linear(2, 2, rngs=nnx.Rngs(0)),
    data,
    data,
    loop=loop,
    optimizer=optax.sgd(0.1),
    folder=RunFolder(folder),
    techniques=techniques,
  )
  return RunFolder(folder).read_lines("metrics.jsonl")


def test_techniques_have_constants_that_evaluation_lacks(tmp_path):
  (row,) = trained(tmp_path, Loop(1, 16), Memory(2.0), Memory(-3.0))
  assert row["train/gap 2.0"] == pytest.approx(80, rel=1e-5)
  assert row["train/gap -3.0"] == pytest.approx(-120, rel=1e-5)
  assert "validation/gap 2.0" not in row


def test_techniques_know_how_much_is_done(tmp_path):
  rows = trained(tmp_path, Loop(4, 40), Clock())  # A step an epoch.
  assert [row["train/progress"] for row in rows] == [0, 0.25, 0.5, 0.75]
