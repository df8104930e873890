"""What a study plans: its trials, their names and what it refuses."""

import copy
import dataclasses
import json
import pathlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effarch.config import flatten
from effarch.errors import UserError
from effarch.strategies.study import Study, plan, run

BASE = {
  "seed": 0,
  "data": {"name": "digits", "split_seed": 0},
  "model": {
    "name": "survey_cnn",
    "width_multiplier": 0.05,
    "convolution": "standard",
  },
  "techniques": (
    {"name": "flip_translate", "horizontal_flip": False, "max_shift": 1},
    {"name": "label_smoothing", "smoothing": 0.1},
  ),
  "optimizer": {
    "name": "adam",
    "learning_rate": 0.01,
    "clip_norm": 0.0,
    "schedule": {"name": "constant"},
  },
  "training": {"epochs": 1, "batch_size": 8},
  "export": {"precisions": ("float32",)},
}


def study(grid, **entries):
  return {**copy.deepcopy(BASE), "study": {"grid": grid, **entries}}


def changes(trial):
  """Returns the trial's leaves that are not the base's."""
  base = flatten(BASE)
  return {k: v for k, v in flatten(trial.config).items() if base.get(k) != v}


def test_grid_is_all_combinations():
  _, trials = plan(
    study(
      {
        "model": {"width_multiplier": (0.1, 0.2, 0.3)},
        "seed": (1, 2),
        "optimizer": {"schedule": {"name": ("constant", "cosine")}},
      }
    )
  )
  # The base is none of them, as its width and its seed are not in the grid.
  found = {
    (
      t.config["model"]["width_multiplier"],
      t.config["seed"],
      t.config["optimizer"]["schedule"]["name"],
    )
    for t in trials.values()
  }
  assert len(trials) == len(found) == 12
  assert found == {
    (width, seed, name)
    for width in (0.1, 0.2, 0.3)
    for seed in (1, 2)
    for name in ("constant", "cosine")
  }
  for trial in trials.values():
    assert set(changes(trial)) <= {
      "model.width_multiplier",
      "seed",
      "optimizer.schedule.name",
    }
    assert "study" not in trial.config


def test_trials_share_nothing_with_each_other_or_the_config():
  config = study({"seed": (1, 2)})
  before = copy.deepcopy(config)
  _, trials = plan(config)
  assert config == before
  one, other = trials.values()
  one.config["techniques"][0]["max_shift"] = 99
  assert other.config["techniques"][0]["max_shift"] == 1
  assert config == before


def test_name_tells_the_values():
  grid = {"model": {"convolution": ("separable",), "width_multiplier": (0.5,)}}
  _, trials = plan(study(grid))
  assert list(trials) == ["convolution=separable,width_multiplier=0.5"]
  assert list(plan(study({}))[1]) == ["default"]


def test_entries_of_a_list_are_varied():
  grid = {"techniques": ({}, {"smoothing": (0.0, 0.2)})}
  _, trials = plan(study(grid))
  assert {name: changes(trial) for name, trial in trials.items()} == {
    "smoothing=0.0": {"techniques[1].smoothing": 0.0},
    "smoothing=0.2": {"techniques[1].smoothing": 0.2},
  }


def test_equal_last_parts_are_told_apart():
  grid = {
    "seed": (0, 1),
    "data": {"split_seed": (0, 1), "name": ("digits",)},
    "optimizer": {
      "name": ("adam", "lion"),
      "schedule": {"name": ("constant",)},
    },
  }
  _, trials = plan(study(grid))
  assert len(trials) == 8
  assert len({json.dumps(trial.config) for trial in trials.values()}) == 8
  assert "seed=1,split_seed=0,data.name=digits,optimizer.name=lion," in (
    "\n".join(trials)
  )


def cleaned(text):
  """Returns `text` with a dash for each stretch that no folder should have."""
  kept = [c if c.isalnum() or c in "_.,=-" else " " for c in text]
  return re.sub(" +", "-", "".join(kept))


@settings(max_examples=10)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True))
def test_name_is_one_safe_folder(texts):
  config = study({"data": {"path": tuple(texts)}})
  # A path is any text, and looked at only when data are loaded.
  config["data"] = {"name": "cifar10", "path": "", "split_seed": 0}
  names = [f"path={cleaned(text)}" for text in texts]
  if len(set(names)) < len(names):
    with pytest.raises(UserError, match="gives two trials the name 'path="):
      plan(config)
    return
  _, trials = plan(config)
  assert list(trials) == names
  for name in trials:
    assert re.fullmatch(r"[\w.,=-]+", name)
    assert pathlib.PurePath(name).parts == (name,)
    assert name not in (".", "..")


@pytest.mark.parametrize("values", [("a b", "a/b"), ("x", "x")])
def test_trials_of_one_name_are_refused(values):
  config = study({"data": {"path": values}})
  config["data"] = {"name": "cifar10", "path": "", "split_seed": 0}
  with pytest.raises(UserError, match="gives two trials the name 'path="):
    plan(config)


@pytest.mark.parametrize(
  ("grid", "message"),
  [
    (
      {"model": {"width_multiplyer": (1.0,)}},
      r"grid\.model\.width_multiplyer: unknown; did you mean "
      r"'model\.width_multiplier'\?",
    ),
    (
      {"techniques": ({"max_shfit": (1,)},)},
      r"grid\.techniques\[0\]\.max_shfit: .*'techniques\[0\]\.max_shift'",
    ),
    (
      {"techniques": ({}, {}, {"smoothing": (0,)})},
      r"techniques\[2\].*unknown",
    ),
    (
      {"model": {"convolution": "standard"}},
      "'standard' is no tuple of values",
    ),
    ({"seed": 3}, r"grid\.seed: 3 is no tuple of values"),
    ({"seed": ()}, r"grid\.seed: \(\) is no tuple of values"),
  ],
)
def test_grid_that_fits_no_config_is_refused(grid, message):
  with pytest.raises(UserError, match=message):
    plan(study(grid))


def test_tree_as_a_value_is_refused():
  config = study({"techniques": ((), ({"name": "flip_translate"},))})
  config["techniques"] = ()
  with pytest.raises(UserError, match=r"grid\.techniques: a value is a tree"):
    plan(config)


@pytest.mark.parametrize(
  ("grid", "message"),
  [
    (
      {"model": {"convolution": ("standard", "seperable")}},
      r"config\.model\.convolution: 'seperable' is none of",
    ),
    (
      {"model": {"width_multiplier": (0.1, 0.2, -1.0)}},
      r"config\.model\.width_multiplier: -1\.0",
    ),
    ({"seed": (0, -1)}, r"config\.seed: -1"),
    (
      {"optimizer": {"name": ("adam", "adamm")}},
      r"config\.optimizer\.name: 'adamm' is unknown; did you mean 'adam'",
    ),
    (
      {"techniques": ({}, {"smoothing": (0.5, 1.5)})},
      r"config\.techniques\[1\]\.smoothing: 1\.5",
    ),
  ],
)
def test_one_impossible_trial_stops_the_plan(grid, message):
  with pytest.raises(UserError, match=message):
    plan(study(grid))


def test_nothing_runs_before_all_trials_are_checked(tmp_path):
  commands = []

  def command(entries, folder):
    commands.append((entries, folder))
    return ""

  with pytest.raises(UserError, match=r"width_multiplier: 99"):
    run(study({"model": {"width_multiplier": (0.1, 99.0)}}), tmp_path, command)
  assert commands == list(tmp_path.iterdir()) == []


def test_study_names_its_columns():
  found, _ = plan(study({"seed": (0,)}, footprint=("macs",)))
  assert (found.quality, found.footprint) == ("accuracy", ("macs",))
  assert dataclasses.asdict(found)["grid"] == {"seed": (0,)}
  default = Study(grid={})
  assert default.footprint == ("size_bytes", "latency_us")


@pytest.mark.parametrize(
  ("entries", "message"),
  [
    ({"quality": "acuracy"}, r"study\.quality: .*did you mean 'accuracy'"),
    ({"footprint": ("mac",)}, r"study\.footprint: .*did you mean 'macs'"),
    ({"footprint": ()}, r"study\.footprint: names no column"),
    ({"footprnt": ("macs",)}, r"study\.footprnt: .*did you mean 'footprint'"),
  ],
)
def test_columns_that_are_not_there_are_refused(entries, message):
  with pytest.raises(UserError, match=message):
    plan(study({"seed": (0,)}, **entries))


def test_config_without_a_study_is_refused():
  with pytest.raises(UserError, match=r"config\.study: missing"):
    plan(BASE)
  with pytest.raises(UserError, match=r"config\.study\.grid: missing"):
    plan({**BASE, "study": {}})
