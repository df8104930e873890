"""The comparison of techniques: arms stand alone, and fit the data."""

import pathlib
import re

import pytest

from configs.learning import compare
from effarch.errors import UserError
from effarch.strategies.arms import plan

ALWAYS = {"distill", "mixup", "weight_ema", "sam"}


@pytest.mark.parametrize(
  ("name", "augmentation", "epochs"),
  [
    ("digits", "rand_augment", 500),
    ("mnist1d", "spec_augment", 15),
    ("cifar10", "rand_augment", 10),
  ],
)
def test_arms_stand_alone(tmp_path, name, augmentation, epochs):
  config = compare.get_config(name).to_dict()
  config["compare"]["seeds"] = (0,)
  _, (teacher,), (plain, *arms) = plan(config, tmp_path)
  assert {each.arm for each in arms} == {*ALWAYS, augmentation}
  assert plain.trial.techniques == teacher.trial.techniques == ()
  assert all(len(each.trial.techniques) == 1 for each in arms)
  assert plain.trial.loop.epochs == teacher.trial.loop.epochs == epochs


def test_the_docs_show_a_comparison(tmp_path):
  text = (pathlib.Path(__file__).parents[2] / "docs/learning.md").read_text()
  text = text[text.index("## Compared fairly") :]
  code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
  exec(code[0], {"config": (config := compare.get_config())})
  chosen, (teacher,), runs = plan(config.to_dict(), tmp_path)
  assert (teacher.arm, chosen.time) == ("wide", True)
  assert [run.arm for run in runs] == ["plain", "distill", "sam"] * 3


def test_variants():
  assert compare.get_config().data.train_fraction == 0.05
  assert compare.get_config("mnist1d,epochs=2").training.epochs == 2
  with pytest.raises(UserError, match="did you mean 'mnist1d'"):
    compare.get_config("mnist")
