"""A trial reads the test set once, at the end, whatever happens before."""

import dataclasses

import jax
import pytest
from flax import nnx

from configs import digits
from effarch.automation import trial as module
from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.infrastructure.data import SOURCES, Digits
from effarch.infrastructure.training import RunFolder

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
