"""What a comparison plans: arms that differ in one thing, and what is none."""

import json

import pytest

from effarch.config import flatten
from effarch.errors import UserError
from effarch.strategies.arms import plan

ARMS = {
  "sam": {"name": "sam", "rho": 0.1},
  "distill": {"name": "distill", "teacher": "wide", "alpha": 0.5},
}
WIDE = {"wide": {"model": {"width_multiplier": 0.1}}}


def comparison(base, **entries):
  compare = {"arms": ARMS, "seeds": (0, 1), "teachers": WIDE, **entries}
  return {**base, "compare": compare}


def leaves(trial):
  return flatten(json.loads(json.dumps(trial.config)))


def test_arms_differ_in_their_technique_and_seeds_in_nothing_else(
  tmp_path, base
):
  _, _, arms = plan(comparison(base), tmp_path)
  assert [(each.arm, each.trial.seed) for each in arms] == [
    (arm, seed) for seed in (0, 1) for arm in ("plain", "sam", "distill")
  ]
  for each in arms:
    expected = flatten({**base, "seed": each.trial.seed})
    expected = {**expected, "export.precisions": ["float32"]}
    for key, value in ARMS.get(each.arm, {}).items():
      expected[f"techniques[1].{key}"] = value
    if each.arm == "distill":
      expected["techniques[1].teacher"] = str(tmp_path / "teachers/wide")
    assert leaves(each.trial) == expected
  assert not list(tmp_path.iterdir())


def test_a_teacher_differs_in_what_is_told(tmp_path, base):
  _, (wide,), _ = plan(comparison(base), tmp_path)
  changed = {"model.width_multiplier": 0.1}
  assert wide.entries == changed
  expected = {**flatten(base), "export.precisions": ["float32"], **changed}
  assert leaves(wide.trial) == expected
  # Another name's arguments are its own alone.
  net = {"name": "mobilenet_v2", "width_multiplier": 0.35, "stem": "small"}
  config = comparison(base, teachers={"wide": {"model": net, "techniques": ()}})
  _, (wide,), _ = plan(config, tmp_path)
  assert wide.trial.config["model"] == net
  assert not wide.trial.techniques


def test_several_teachers_and_folders_of_other_runs(tmp_path, base):
  several = {"name": "distill", "teacher": ("wide", "runs/other")}
  _, _, (_, arm) = plan(
    comparison(base, arms={"both": several}, seeds=(0,)), tmp_path
  )
  teachers = arm.trial.config["techniques"][1]["teacher"]
  assert teachers == (str(tmp_path / "teachers/wide"), "runs/other")


@pytest.mark.parametrize(
  ("entries", "message"),
  [
    ({"arms": {}}, r"^config\.compare\.arms: names no technique$"),
    (
      {"arms": {**ARMS, "plain": {"name": "mixup"}}},
      r"^config\.compare\.arms\.plain: the name is taken",
    ),
    (
      {"arms": {**ARMS, "a,b": {"name": "mixup"}}},
      r"^config\.compare\.arms\.a,b: has more than letters",
    ),
    (
      {"arms": {**ARMS, "again": {"rho": 0.1, "name": "sam"}}},
      r"^config\.compare\.arms\.again: is the technique of sam again$",
    ),
    (
      {"arms": {**ARMS, "x": "sam"}},
      r"^config\.compare\.arms\.x: 'sam' is no technique$",
    ),
    (
      {"arms": {**ARMS, "x": {"name": "mxup"}}},
      r"^config\.compare\.arms\.x\.name: 'mxup' is unknown; .*'mixup'\?$",
    ),
    (
      {"arms": {**ARMS, "x": {"name": "sam", "rho": -1.0}}},
      r"^config\.compare\.arms\.x\.rho: -1\.0 is not in \[0, inf\)$",
    ),
    ({"seeds": ()}, r"^config\.compare\.seeds: names no seed$"),
    ({"seeds": (1, 2, 1)}, r"^config\.compare\.seeds: 1 is there twice$"),
    ({"seeds": (0, -1)}, r"^config\.compare\.seeds: -1 is not a whole"),
    ({"time": 1}, r"^config\.compare\.time: 1 is no bool$"),
    ({"arm": {}}, r"^config\.compare\.arm: unknown; did you mean 'arms'\?$"),
    (
      {"teachers": {**WIDE, "deep": {}}},
      r"^config\.compare\.teachers\.deep: is no arm's teacher$",
    ),
    (
      {"teachers": {"wide": {"model": {"widht_multiplier": 1.0}}}},
      r"^config\.compare\.teachers\.wide\.model\.widht_multiplier: unknown",
    ),
    (
      {"teachers": {"wide": {"sed": 1}}},
      r"^config\.compare\.teachers\.wide\.sed: unknown; did you mean 'seed'\?$",
    ),
  ],
)
def test_what_can_not_be_stops_before_any_work(
  tmp_path, base, entries, message
):
  with pytest.raises(UserError, match=message):
    plan(comparison(base, **entries), tmp_path)


def test_what_the_config_lacks_is_told(tmp_path, base):
  with pytest.raises(UserError, match=r"config\.compare: missing"):
    plan(base, tmp_path)
  config = comparison(base)
  config["training"]["epochs"] = 1
  with pytest.raises(UserError, match=r"config\.compare\.time: True needs"):
    plan(config, tmp_path)
  del config["optimizer"]
  with pytest.raises(UserError, match=r"^config\.optimizer: missing"):
    plan(config, tmp_path)
