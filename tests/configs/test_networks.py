"""Networks of convolutions train and ship by their config."""

import pytest

from configs import digits
from configs.networks import cifar10
from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.infrastructure.runtime import LiteRTModel
from effarch.infrastructure.training import RunFolder
from effarch.strategies import study

pytestmark = pytest.mark.usefixtures("quick_compilation")
# What makes them small.
SMALL = {
  "resnet_18": {"depths": (1, 1), "features": (8, 16)},
  "resnet_20_cifar_option_a": {"blocks": 1},
  "mobilenet_v1": {"width_multiplier": 0.25},
  "mobilenet_v2": {"width_multiplier": 0.25},
  "convnext_tiny": {"depths": (1, 1), "features": (8, 16), "patch_size": 1},
}


@pytest.mark.parametrize("name", cifar10.NETWORKS)
def test_a_study_of_each_is_possible(name):
  config = cifar10.get_config(f"{name},w=0.5,smooth").to_dict()
  assert config["model"]["width_multiplier"] == 0.5
  assert [t["name"] for t in config["techniques"]] == [
    "flip_translate",
    "label_smoothing",
  ]
  assert len(study.plan(config)[1]) == 3


def test_an_unknown_network_is_told_with_the_nearest():
  with pytest.raises(UserError, match="did you mean 'mobilenet_v2'"):
    cifar10.get_config("mobilnet_v2")


def small(model, epochs):
  """A config of digits for this model."""
  config = digits.get_config().to_dict()
  del config["study"]
  config["model"] = {"dtype": "float32", **model}
  config["training"].update(epochs=epochs, evaluate_every=1)
  config["export"]["calibration_size"] = 50
  return config


@pytest.mark.parametrize("name", cifar10.NETWORKS)
def test_each_trains_and_ships(name, tmp_path):
  model = cifar10.get_config(name).to_dict()["model"]
  trial = Trial(small({**model, **SMALL[name]}, epochs=8))
  folder = RunFolder(tmp_path)
  trial.train(folder)
  rows = {row["precision"]: row for row in trial.ship(folder)}
  assert rows["float32"]["differs"] == 0
  assert rows["float32"]["accuracy"] > 0.2
  assert rows["int8"]["accuracy"] > rows["float32"]["accuracy"] - 0.1
  assert rows["int8"]["size_bytes"] < rows["float32"]["size_bytes"]


def test_what_folds_is_shipped_folded(tmp_path):
  model = {"name": "survey_cnn", "convolution": "rep_vgg"}
  trial = Trial(small({**model, "width_multiplier": 0.05}, epochs=1))
  folder = RunFolder(tmp_path)
  trial.train(folder)
  row = trial.ship(folder)[0]
  assert row["differs"] == 0
  operators = LiteRTModel(tmp_path / row["file"]).operators()
  # No branch stands beside them; of one channel, a convolution is depthwise.
  assert operators.count("CONV_2D") == 5
  assert operators.count("DEPTHWISE_CONV_2D") == 1
