"""Run folders that teach."""

import pathlib
import re

import pytest

from configs.sequence import mnist1d
from effarch.automation.trial import TECHNIQUES, Trial
from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def run(tmp_path):
  """Trains a small network with techniques in a folder of this name."""
  config = mnist1d.get_config().to_dict()
  config["data"].update(num_train=64, num_validation=32, num_test=32)
  config["model"].update(features=8, num_heads=2, hidden_features=8, depth=1)
  config["training"].update(epochs=1, batch_size=32)

  def train(name, *techniques):
    own = {**config, "techniques": list(techniques)}
    folder = RunFolder.open(tmp_path / name, own)
    return Trial(own), folder, Trial(own).train(folder)

  return train


def test_a_chain_of_teachers_outlives_its_first(run, tmp_path):
  """A run's folder teaches the next, which asks no more for the one before."""

  def taught(name, **arguments):
    return {"name": "distill", "teacher": str(tmp_path / name), **arguments}

  with pytest.raises(UserError, match=r"big: holds no config\.json"):
    run("lost", taught("big"))
  losses = {run("big")[-1]["train/loss"]}
  losses.add(run("assistant", taught("big"))[-1]["train/loss"])
  (tmp_path / "big").rename(tmp_path / "moved")
  cached = taught("assistant", cached=True)
  losses.add(run("small", cached)[-1]["train/loss"])
  assert len(losses) == 3
  (tmp_path / "small" / "result.json").unlink()
  with pytest.raises(UserError, match="small: its training is not finished"):
    run("early", taught("small"))


def test_the_docs_show_a_config():
  text = (pathlib.Path(__file__).parents[2] / "docs/learning.md").read_text()
  text = text[text.index("## Distillation") :]
  code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
  shown = {}
  exec(code[0], shown)
  names = [each["name"] for each in shown["config"].techniques]
  techniques = Trial(shown["config"].to_dict()).techniques
  assert [TECHNIQUES[name] for name in names] == [type(t) for t in techniques]


def test_inner_tensors_need_the_teacher_to_load(run, tmp_path):
  _, _, plain = run("teacher")
  trial, folder, result = run(
    "student",
    {
      "name": "distill_features",
      "teacher": [str(tmp_path / "teacher")],
      "layers": [["blocks", "blocks"], ["norm", "norm"]],
    },
  )
  assert result["params"] == plain["params"]
  assert result["train/loss"] > plain["train/loss"]
  (tmp_path / "teacher").rename(tmp_path / "moved")
  with pytest.raises(UserError, match=r"teacher: holds no config\.json"):
    trial.trained(folder)
