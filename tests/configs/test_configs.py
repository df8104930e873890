"""Every config is readable, possible, and made of keys that are read."""

import copy
import importlib
import pathlib

import pytest

from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.strategies import study

ROOT = pathlib.Path(__file__).parents[2]
FILES = [ROOT / "configs" / "digits.py", ROOT / "configs/survey/cifar10.py"]


@pytest.mark.parametrize(
  "file", FILES, ids=lambda f: str(f.relative_to(ROOT / "configs"))
)
@pytest.mark.parametrize("variant", ["", "w=0.05", "convolution=separable"])
def test_config_is_possible(file, variant):
  name = file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
  config = importlib.import_module(name).get_config(variant).to_dict()
  if "study" in config:
    assert study.plan(config)[1]
  else:
    Trial(config)


def digits():
  config = importlib.import_module("configs.digits").get_config().to_dict()
  del config["study"]
  return config


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    (("model", "width_multiplier"), 0.0, "config.model.width_multiplier: 0.0"),
    (("model", "name"), "survy_cnn", "did you mean 'survey_cnn'"),
    (("data", "test_fraction"), 1.5, "config.data.test_fraction: 1.5"),
    (("optimizer", "learning_rate"), 0.0, "config.optimizer.learning_rate"),
    (("optimizer", "clip_norm"), -1.0, "config.optimizer.clip_norm: -1.0"),
    (("optimizer", "clip_norm"), float("nan"), "clip_norm: nan"),
    (("optimizer", "learning_rate"), float("inf"), "learning_rate: inf"),
    (("optimizer", "learning_rate"), "x", "learning_rate: 'x' is no number"),
    (("optimizer", "clip_norm"), True, "clip_norm: True is no number"),
    (("optimizer", "weight_decay"), -1.0, "weight_decay: -1.0"),
    (("training", "batch_size"), "x", "training.batch_size: 'x' is no int"),
    (("training", "epochs"), 1.5, "config.training.epochs: 1.5 is no int"),
    (("model", "width_multiplier"), "x", "width_multiplier: 'x' is no float"),
    (("export", "precisions"), (), "config.export.precisions: is empty"),
    (
      ("optimizer", "schedule", "peak_fraction"),
      1.0,
      "config.optimizer.schedule.peak_fraction: 1.0",
    ),
    (("optimizer", "momentun"), 0.9, "config.optimizer.momentun: unknown"),
    (("techniques", 0, "max_shift"), -1, r"config.techniques\[0\].max_shift"),
    (("training", "epochs"), 0, "config.training.epochs: 0 is not positive"),
    (("export", "precisions"), ("int88",), "did you mean 'int8'"),
    (("seed",), -1, "config.seed: -1"),
    (("sed",), 1, "config.sed: unknown; did you mean 'seed'"),
  ],
)
def test_the_impossible_stops_before_any_work(path, value, message):
  config = copy.deepcopy(digits())
  *parents, last = path
  place = config
  for key in parents:
    place = place[key]
  place[last] = value
  with pytest.raises(UserError, match=message):
    Trial(config)


@pytest.mark.parametrize("part", ["data", "model", "training", "export"])
def test_a_missing_part_is_named(part):
  config = digits()
  del config[part]
  with pytest.raises(UserError, match=f"config.{part}: missing"):
    Trial(config)
