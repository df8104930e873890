"""Every sequence task takes every mixer, at one budget."""

import functools
import importlib
import pathlib

import numpy as np
import pytest
from PIL import Image

from configs import arena
from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.sizes import Size
from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.infrastructure.cost import measure

ROOT = pathlib.Path(__file__).parents[2]
TASKS = [
  f"configs.{folder}.{file.stem}"
  for folder in ("lra", "sequence")
  for file in sorted((ROOT / "configs" / folder).glob("[!_]*.py"))
]
CAUSAL = [name for name, kind in ATTENTION.items() if kind.supports.causal]
# They have parameters for each pair of places.
QUADRATIC = {"random_synthesizer", "gmlp"}


@pytest.fixture
def data(tmp_path):
  """A small source of each kind that a user brings."""
  for part in ("train", "test"):
    for name in ("neg", "pos"):
      folder = tmp_path / "texts" / part / name
      folder.mkdir(parents=True)
      for place in range(12):
        (folder / f"{place}.txt").write_text(f"{name} text {place}")
  rows = [f"{place % 2}\ttext {place}\tother {place}" for place in range(40)]
  (tmp_path / "pairs.tsv").write_text("\n".join(rows))
  (tmp_path / "text.txt").write_text("to be or not to be " * 500)
  for name in ("cat", "dog"):
    (tmp_path / "images" / name).mkdir(parents=True)
    for place in range(10):
      pixels = np.full((32, 32, 3), 20 * place, np.uint8)
      Image.fromarray(pixels).save(tmp_path / "images" / name / f"{place}.png")
  return tmp_path


def config_of(task, variant, data):
  config = importlib.import_module(task).get_config(variant).to_dict()
  source = config["data"]
  if source["name"] == "text_folder":
    source["path"] = str(data / "texts")
  elif source["name"] == "text_pairs":
    source["path"] = str(data / "pairs.tsv")
  elif source["name"] == "text_file":
    source["path"] = str(data / "text.txt")
  elif source.get("source", {}).get("name") == "cifar10":
    source["source"] = {"name": "image_folder", "path": str(data / "images")}
  return config


@pytest.mark.parametrize("variant", ["", "linear", "full+local,depth=2,seed=3"])
@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_possible(task, variant, data):
  trial = Trial(config_of(task, variant, data))
  length = trial.source.input_shape[-1 if trial.source.vocab_size else 0]
  assert trial.model().length == length
  assert trial.seed == (3 if "seed" in variant else 0)


def test_mixers_take_turns(data):
  config = config_of("configs.sequence.recall", "full+local", data)
  mixers = [type(b.mixer).__name__ for b in Trial(config).model().blocks]
  assert mixers == ["FullAttention", "LocalAttention"]


@functools.cache
def reference(model, size):
  return arena.cost(model, "full", size, 4, 256)


@pytest.mark.parametrize("name", ATTENTION)
def test_no_mixer_has_more_than_the_budget_and_none_wastes_it(name):
  """At the sizes of `configs/lra/listops.py`, which trains the model made."""
  size = Size(t=2000, c=128, n=4, w=64)
  budget = reference("encoder", size)
  made = arena.fit("encoder", name, size, 4, 256)
  depth, hidden = made["depth"], made["hidden_features"]
  cost = arena.cost("encoder", name, size, depth, hidden)
  if name in QUADRATIC:
    assert made == {"depth": 1, "hidden_features": 0}
    assert cost.params > budget.params
    return
  assert cost.params <= budget.params
  assert cost.macs <= budget.macs
  more = arena.cost("encoder", name, size, depth, hidden + 1)
  assert not budget.holds(more)


@pytest.mark.parametrize("name", CAUSAL)
def test_decoders_keep_the_budget_too(name):
  size = Size(t=64, c=64, n=4, w=16)
  made = arena.fit("decoder", name, size, 2, 128)
  cost = arena.cost("decoder", name, size, *made.values())
  assert made["depth"] == 2
  assert reference("decoder", size).holds(cost) or (
    arena.cost("decoder", "full", size, 2, 128).holds(cost)
  )


@pytest.mark.parametrize(
  ("task", "name"),
  [("configs.sequence.recall", "delta"), ("configs.lra.listops", "linformer")],
)
def test_what_is_trained_is_what_was_fitted(task, name, data):
  """Between tasks' real models there is the difference that was foreseen."""
  full, other = (
    measure(trial.model(), trial.source.example())
    for trial in (
      Trial(config_of(task, mixer, data)) for mixer in ("full", name)
    )
  )
  assert other.params <= full.params
  assert other.macs <= full.macs
  assert other.params > 0.97 * full.params or other.macs > 0.97 * full.macs


def test_a_wrong_mixer_is_told(data):
  with pytest.raises(UserError, match="mixer 'perfomer' is unknown; did you"):
    config_of("configs.lra.listops", "perfomer", data)


def test_a_mixer_that_looks_ahead_is_no_decoders(data):
  with pytest.raises(UserError, match=r"mixers: FNet is not causal"):
    config_of("configs.sequence.recall", "fnet", data)


@pytest.mark.parametrize("pixels", [32, 64])
def test_pathfinder_has_sizes(pixels, data):
  config = config_of("configs.lra.pathfinder", f"s5,pixels={pixels}", data)
  assert Trial(config).source.input_shape == (pixels**2,)
