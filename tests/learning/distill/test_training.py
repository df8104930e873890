"""The loop with teachers: exact resume, bare checkpoints, any company."""

import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from effarch.compression import Quantize
from effarch.infrastructure.training import Loop, RunFolder, best_model, fit
from effarch.infrastructure.training import loop as loop_module
from effarch.learning import (
  Distill,
  DistillFeatures,
  LabelSmoothing,
  MutualLearning,
  PseudoLabels,
  SelfDistill,
)
from tests.learning.distill.nets import Net, blobs

EXAMPLE = jax.ShapeDtypeStruct((1, 4), "float32")
LOOP = Loop(epochs=3, batch_size=16)
ROOT = pathlib.Path(__file__).parents[3]


def train(folder, techniques, loop=LOOP):
  return fit(
    Net(nnx.Rngs(0)),
    blobs(40),
    blobs(20, seed=1),
    loop=loop,
    optimizer=optax.adam(1e-2),
    folder=RunFolder(folder),
    techniques=techniques,
  )


def trained(folder, techniques):
  return best_model(Net(nnx.Rngs(9)), RunFolder(folder), EXAMPLE, techniques)


def everything(teacher):
  return (
    PseudoLabels(teacher),
    Distill(teacher, objective="decoupled"),
    LabelSmoothing(0.1),
    Distill(teacher, cached=True),
    DistillFeatures(teacher, layers=(("layers", "layers"),)),
    DistillFeatures(
      teacher, layers=(("norm", "norm"),), objective="contrastive"
    ),
    SelfDistill(("layers.0",)),
    MutualLearning(Net),
  )


def learned(model):
  return nnx.state(model, nnx.Not(nnx.RngState))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A training with everything, from which every other test looks away."""
  teacher = Net(nnx.Rngs(1), features=10, depth=4)
  before = learned(nnx.clone(teacher))
  techniques = everything(teacher)
  folder = tmp_path_factory.mktemp("whole")
  result = train(folder, techniques)
  chex.assert_trees_all_equal(learned(teacher), before)
  return folder, techniques, result


def test_the_trained_model_is_bare_and_what_was_judged(whole):
  folder, techniques, result = whole
  model = trained(folder, techniques)
  assert type(model) is Net
  assert not any(name.startswith("attachment") for name in vars(model))
  bare = Net(nnx.Rngs(0))
  bare.eval()
  assert nnx.graphdef(model) == nnx.graphdef(bare)
  data = blobs(20, seed=1)
  right = np.argmax(model(data.inputs), -1) == data.labels
  assert result["validation/accuracy"] == pytest.approx(right.mean())


def test_no_checkpoint_holds_a_teacher(whole):
  """Nothing that is kept has the shape of its middle layers."""
  folder, _, _ = whole
  (path, *_) = (folder / "checkpoints").glob("*/model")
  tree = ocp.PyTreeCheckpointHandler().metadata(path).tree
  shapes = [each.shape for each in jax.tree.leaves(tree)]
  assert (6, 10) in shapes  # A projection is kept.
  assert (10, 10) not in shapes


def lines(folder):
  return (folder / "metrics.jsonl").read_bytes()


class StopError(Exception):
  pass


def test_a_resumed_training_is_the_undisturbed_one(
  whole, tmp_path, monkeypatch
):
  folder, techniques, result = whole
  save = loop_module._save

  def dying(*args):
    save(*args)
    raise StopError

  with monkeypatch.context() as patch:
    patch.setattr(loop_module, "_save", dying)
    with pytest.raises(StopError):
      train(tmp_path, techniques)
  again = train(tmp_path, techniques)
  assert again["validation/loss"] == result["validation/loss"]
  assert lines(tmp_path) == lines(folder)


def test_off_is_absent_bit_by_bit(tmp_path, teacher):
  off = (
    Distill(teacher, alpha=0.0),
    DistillFeatures(teacher, layers=(("norm", "norm"),), weight=0.0),
    SelfDistill(("norm",), weight=0.0),
    MutualLearning(Net, weight=0.0),
  )
  train(tmp_path / "off", off)
  train(tmp_path / "absent", ())
  assert lines(tmp_path / "off") == lines(tmp_path / "absent")


def test_a_technique_that_wraps_the_model_can_follow(tmp_path, teacher):
  techniques = (
    Distill(teacher, alpha=0.5),
    MutualLearning(Net),
    Quantize(),
  )
  train(tmp_path, techniques, Loop(epochs=1, batch_size=16))
  model = trained(tmp_path, techniques)
  assert not hasattr(model.model, "attachment_0")
  assert model(jnp.asarray(blobs(4).inputs)).shape == (4, 3)


def test_the_student_comes_near_its_teacher(tmp_path):
  """Of random labels it learns nothing, of the teacher all."""
  teacher = Net(nnx.Rngs(1))
  teacher.eval()
  data = blobs(40)
  wanted = teacher(data.inputs).argmax(-1)

  def agreement(name, techniques):
    loop = Loop(epochs=60, batch_size=20, evaluate_every=60)
    train(tmp_path / name, techniques, loop)
    model = trained(tmp_path / name, techniques)
    return np.mean(model(data.inputs).argmax(-1) == wanted)

  pupil = agreement("pupil", (Distill(teacher, alpha=1.0, temperature=1.0),))
  assert pupil > 0.9
  assert pupil > agreement("alone", ()) + 0.2


SCRIPT = """
import jax
from tests.learning.distill.test_training import *
assert jax.device_count() == 4
teacher = Net(nnx.Rngs(1), features=10, depth=4)
train(sys.argv[1], everything(teacher))
"""


def test_four_devices_learn_what_one_learns(whole, tmp_path):
  folder, _, _ = whole
  done = subprocess.run(
    [sys.executable, "-c", SCRIPT, str(tmp_path)],
    cwd=ROOT,
    env={
      **os.environ,
      "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
      "PYTHONPATH": str(ROOT),
    },
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert_alike(folder, tmp_path)


def test_a_scan_of_steps_learns_what_single_steps_learn(
  whole, tmp_path, monkeypatch
):
  """As on accelerators."""
  folder, techniques, _ = whole
  name = "effarch.infrastructure.training.steps.unrolled"
  monkeypatch.setattr(name, lambda: False)
  train(tmp_path, techniques)
  assert_alike(folder, tmp_path)


def assert_alike(*folders):
  rows = (RunFolder(each).read_lines("metrics.jsonl") for each in folders)
  for a, b in zip(*rows, strict=True):
    assert a["train/loss"] == pytest.approx(b["train/loss"], rel=2e-3)
    assert a["validation/loss"] == pytest.approx(b["validation/loss"], rel=2e-2)
