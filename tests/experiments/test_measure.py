"""Measuring what a config names, in this process."""

import dataclasses
import json

import jax.numpy as jnp
import pytest
from flax import nnx

from effarch.architectures.models import MODELS
from effarch.infrastructure.cost import Ceilings, report
from effarch.infrastructure.data import SOURCES, Source
from experiments import measure

CONFIG = [
  "--config=configs/digits.py",
  "--config.data.name=toy",
  "--config.model.name=mixer",
]


@dataclasses.dataclass(frozen=True)
class Toy(Source):
  """Sequences of length 6, or images."""

  input_shape: tuple[int, ...] = (6, 4)
  class_names = ("a", "b")


class Mixer(nnx.Module):
  def __init__(self, input_shape, num_classes, *, rngs):
    self.head = nnx.Linear(input_shape[-1], num_classes, rngs=rngs)

  def __call__(self, x):
    x = x.reshape(len(x), -1, x.shape[-1])
    mixed = jnp.einsum("btc,bsc->bts", x, x) @ x
    return self.head(mixed.mean(1))


@pytest.fixture(autouse=True)
def tables(monkeypatch):
  monkeypatch.setitem(SOURCES, "toy", Toy)
  monkeypatch.setitem(MODELS, "mixer", Mixer)
  toy = Ceilings("toy", "float32", 1e9, 1e9)
  monkeypatch.setattr(report, "measured_ceilings", lambda _: toy)


def macs(batch, length):
  return batch * (2 * length**2 * 4 + 4 * 2)


def test_lengths_and_batches_are_swept(call, tmp_path, capsys):
  call(
    lambda: measure.main([]),
    *CONFIG,
    "--config.measure.batch_sizes=(1,2)",
    "--config.measure.sequence_lengths=(3,6)",
    f"--workdir={tmp_path}",
  )
  rows = json.loads((tmp_path / "sweep.json").read_text())["rows"]
  points = [(row["batch_size"], row["sequence_length"]) for row in rows]
  assert points == [(1, 3), (1, 6), (2, 3), (2, 6)]
  assert [row["macs"] for row in rows] == [macs(*point) for point in points]
  told = capsys.readouterr().out
  assert "sequence length" in told
  assert f"{macs(2, 6):,}" in told
  # The table by module is that of the first point.
  assert json.loads((tmp_path / "cost.json").read_text())["macs"] == macs(1, 3)
  assert f"{rows[0]['p50_us']:,.1f} us" in told


def test_training_steps_hold_the_configs_optimizer(call, tmp_path):
  arguments = [*CONFIG, f"--workdir={tmp_path}"]
  call(lambda: measure.main([]), *arguments, "--config.measure.train=True")
  cost = json.loads((tmp_path / "cost.json").read_text())
  assert cost["train"]
  assert cost["activation_bytes"] > 0
  modules = [row["module"] for row in cost["modules"]]
  assert "(optimizer)" in modules
  # AdamW's two moments, and the counters of it and its schedule.
  assert cost["optimizer_bytes"] == 2 * 4 * (4 * 2 + 2) + 8


@pytest.mark.parametrize(
  ("arguments", "told"),
  [
    (
      ["--config.measure.batch_sizes=()"],
      "config.measure.batch_sizes: is empty",
    ),
    (
      ["--config.measure.batch_size=(1,)"],
      "config.measure.batch_size: unknown; did you mean 'measure.batch_sizes'?",
    ),
    (
      ["--config.measure.sequence_lengths=(8,)", "--config.data.name=image"],
      "config.measure.sequence_lengths: an input of 8x8x1 is no sequence",
    ),
  ],
)
def test_impossible_sweeps_are_told_in_one_line(
  refused, monkeypatch, arguments, told
):
  monkeypatch.setitem(SOURCES, "image", lambda: Toy((8, 8, 1)))
  assert refused(lambda: measure.main([]), *CONFIG, *arguments) == told
