"""A trial hands on what its config says, and reads the test set last."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest
from flax import nnx

from configs import digits
from configs.lra import listops
from effarch.automation import trial as module
from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.infrastructure.data import SOURCES, Digits, decode
from effarch.infrastructure.training import SCHEDULES, RunFolder, evaluate

EVENTS = []


@dataclasses.dataclass(frozen=True)
class Watched(Digits):
  """Digits that write down what is read of them."""

  def load(self, split):
    EVENTS.append(split)
    return super().load(split)


@pytest.fixture
def config(monkeypatch):
  EVENTS.clear()
  monkeypatch.setitem(SOURCES, "digits", Watched)
  config = digits.get_config("w=0.05").to_dict()
  del config["study"]
  config["training"].update(epochs=2, evaluate_every=1)
  return config


@pytest.mark.parametrize(
  ("task", "model", "message"),
  [
    ("recall", {"name": "survey_cnn"}, "survey_cnn takes no tokens"),
    ("mnist1d", {"name": "decoder"}, "is not T, of tokens"),
    (
      "recall",
      {"name": "encoder"},
      "config.model.name: encoder has a class for each example, and "
      "config.data one for each token",
    ),
    ("mnist1d", {"name": "encoder", "vocab_size": 3}, "vocab_size: unknown"),
  ],
)
def test_a_model_fits_its_data(task, model, message):
  config = importlib.import_module(f"configs.sequence.{task}").get_config()
  config = config.to_dict()
  if model["name"] == "survey_cnn":
    config["model"] = model
  else:
    config["model"].update(model)
  with pytest.raises(UserError, match=message):
    Trial(config)


def test_a_sequence_task_is_trained_judged_and_shipped(tmp_path):
  """By the smallest loss, in batches by length."""
  config = listops.get_config("linear,short").to_dict()
  config["data"].update(num_train=64, num_validation=32, num_test=32)
  config["model"].update(features=16, num_heads=2, hidden_features=8)
  config["training"].update(epochs=3, batch_size=16, best="loss")
  config["training"]["buckets"] = (50,)
  folder = RunFolder.open(tmp_path, config)
  trial = Trial(config)
  result = trial.train(folder)
  losses = [
    row["validation/loss"] for row in folder.read_lines("metrics.jsonl")
  ]
  assert result["validation/loss"] == min(losses)
  assert result["epoch"] == 1 + losses.index(min(losses))
  # Buckets change no number but by rounding.
  whole = evaluate(trial.trained(folder), trial.source.load("test"))
  assert result["test/loss"] == pytest.approx(whole["loss"], rel=1e-4)
  (row,) = trial.ship(folder)
  assert row["jax_accuracy"] == pytest.approx(result["test/accuracy"])
  assert row["differs"] == 0


def test_test_data_is_read_after_the_last_choice(config, tmp_path, monkeypatch):
  original = module.fit

  def watched(*args, **kwargs):
    result = original(*args, **kwargs)
    EVENTS.append("trained")
    return result

  monkeypatch.setattr(module, "fit", watched)
  trial = Trial(config)
  assert EVENTS == []
  folder = RunFolder.open(tmp_path, config)
  result = trial.train(folder)
  assert EVENTS == ["train", "validation", "trained", "test"]
  assert folder.read("result.json") == result
  # A finished run is read, not run.
  assert Trial(config).train(folder) == result
  assert len(EVENTS) == 4


def test_the_shipped_float_file_reaches_the_results_accuracy(config, tmp_path):
  trial = Trial(config)
  folder = RunFolder.open(tmp_path, config)
  result = trial.train(folder)
  rows = {row["precision"]: row for row in trial.ship(folder)}
  assert rows["float32"]["accuracy"] == pytest.approx(result["test/accuracy"])
  assert rows["float32"]["differs"] == 0
  before = [p.stat().st_mtime_ns for p in (tmp_path / "artifacts").iterdir()]
  trial.ship(folder)
  after = [p.stat().st_mtime_ns for p in (tmp_path / "artifacts").iterdir()]
  assert before == after


def test_seed_gives_the_initial_parameters(config):
  def leaves(seed):
    return jax.tree.leaves(nnx.state(Trial({**config, "seed": seed}).model()))

  assert all((a == b).all() for a, b in zip(leaves(1), leaves(1), strict=True))
  assert any((a != b).any() for a, b in zip(leaves(1), leaves(2), strict=True))


def test_an_unfinished_run_does_not_ship(config, tmp_path, monkeypatch):
  trial = Trial(config)
  folder = RunFolder.open(tmp_path, config)

  def dying(*_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(module, "evaluate", dying)
    with pytest.raises(KeyboardInterrupt):
      trial.train(folder)
  with pytest.raises(UserError, match="training is not finished"):
    trial.ship(folder)
  assert not (tmp_path / "artifacts").exists()
  trial.train(folder)
  assert trial.ship(folder)


def test_a_bfloat16_model_trains_and_ships(config, tmp_path):
  config["model"]["dtype"] = "bfloat16"
  trial = Trial(config)
  folder = RunFolder.open(tmp_path, config)
  result = trial.train(folder)
  rows = {row["precision"]: row for row in trial.ship(folder)}
  assert rows["float32"]["differs"] == 0
  assert abs(rows["float32"]["accuracy"] - result["test/accuracy"]) < 0.05


@pytest.mark.parametrize("seed", [True, -1, 1.0, "1", 2**32])
def test_a_seed_is_a_whole_number_of_32_bits(config, seed):
  with pytest.raises(UserError, match=f"config.seed: {seed!r} is not a whole"):
    Trial({**config, "seed": seed})


def plain_sgd(clip_norm: float = 0.0) -> dict:
  return {
    "name": "sgd",
    "learning_rate": 1.0,
    "clip_norm": clip_norm,
    "schedule": {"name": "constant"},
  }


@pytest.fixture
def handed_to_fit(tmp_path, monkeypatch):
  """A function from a config to what its trial calls `fit` with."""

  def halted(*_, **kwargs):
    raise KeyboardInterrupt(kwargs)

  def handed(config):
    folder = RunFolder.open(tmp_path, config)
    with pytest.raises(KeyboardInterrupt) as caught:
      Trial(config).train(folder)
    (kwargs,) = caught.value.args
    return kwargs

  monkeypatch.setattr(module, "fit", halted)
  return handed


def update(optimizer, gradient):
  gradient = np.array(gradient, np.float32)
  return optimizer.update(gradient, optimizer.init(gradient))[0]


def test_seed_techniques_and_number_of_steps_reach_fit(
  config, handed_to_fit, monkeypatch
):
  # The rate is the number of steps, so that an update tells it.
  monkeypatch.setitem(
    SCHEDULES, "constant", lambda learning_rate, total_steps: total_steps
  )
  config.update(seed=3, optimizer=plain_sgd())
  handed = handed_to_fit(config)
  assert handed["seed"] == 3
  assert len(handed["techniques"]) == 2
  assert handed["techniques"] == Trial(config).techniques
  steps = 2 * (len(Digits().load("train")) // config["training"]["batch_size"])
  assert update(handed["optimizer"], 1.0) == -steps


def test_a_long_gradient_is_clipped_to_the_configs_norm(config, handed_to_fit):
  optimizer = handed_to_fit({**config, "optimizer": plain_sgd(0.5)})[
    "optimizer"
  ]
  np.testing.assert_allclose(update(optimizer, [30, 40]), [-0.3, -0.4])
  np.testing.assert_allclose(update(optimizer, [0.03, 0.04]), [-0.03, -0.04])


@pytest.fixture
def finished(tmp_path, monkeypatch):
  """A run folder that passes for trained, with the initial parameters."""

  def best_model(model, *_):
    model.eval()
    return model

  monkeypatch.setattr(module, "best_model", best_model)
  folder = RunFolder(tmp_path)
  folder.write("result.json", {})
  return folder


def test_a_half_shipped_run_ships_the_rest(config, finished):
  trial = Trial(config)
  trial.ship(finished)
  lost = finished.path / "artifacts/int8.tflite.json"
  lost.unlink()
  rows = trial.ship(finished)
  assert lost.exists()
  assert [row["precision"] for row in rows] == ["float32", "int8"]


def test_the_configs_export_is_what_ships(config, finished):
  config["export"] = {"precisions": ("int4",), "calibration_size": 7}
  (row,) = Trial(config).ship(finished)
  assert row["precision"] == "int4"
  shipped = {path.name for path in (finished.path / "artifacts").iterdir()}
  assert shipped == {"int4.tflite.json", "int4.tflite"}


def test_calibration_sees_training_examples_once_each(
  config, finished, monkeypatch
):
  seen = []

  def quantize(model, batches):
    seen.extend(example for batch in batches for example in np.asarray(batch))
    return model

  monkeypatch.setitem(module.PRECISIONS, "int8", quantize)
  config["export"] = {"precisions": ("int8",), "calibration_size": 33}
  Trial(config).ship(finished)
  assert len(seen) == 33
  train = {
    x.tobytes() for x in np.asarray(decode(Digits().load("train").inputs))
  }
  drawn = {example.tobytes() for example in seen}
  assert len(drawn) == 33
  assert drawn <= train


@pytest.mark.parametrize(
  ("precisions", "techniques", "message"),
  [
    (("int8",), [{"name": "quantize"}], "'int8' would undo the technique"),
    (("trained",), [], "'trained' is of the technique quantize, which"),
    (("int3",), [], "'int3' is unknown; did you mean"),
  ],
)
def test_files_that_cannot_be_are_told(config, precisions, techniques, message):
  config["export"]["precisions"] = precisions
  config["techniques"] = techniques
  with pytest.raises(UserError, match=f"config.export.precisions: {message}"):
    Trial(config)
