"""What a comparison trains: arms that differ in one thing, and once."""

import copy
import json
import statistics

import pytest

from effarch.automation.trial import Trial
from effarch.config import flatten
from effarch.errors import UserError
from effarch.strategies.compare import epochs_in_time, plan, run

BASE = {
  "seed": 7,
  "data": {"name": "digits", "split_seed": 0},
  "model": {"name": "survey_cnn", "width_multiplier": 0.05},
  "techniques": ({"name": "label_smoothing", "smoothing": 0.1},),
  "optimizer": {
    "name": "adam",
    "learning_rate": 0.01,
    "clip_norm": 0.0,
    "schedule": {"name": "cosine", "warmup_fraction": 0.1},
  },
  "training": {"epochs": 10, "batch_size": 8},
  "export": {"precisions": ("float32",)},
}
ARMS = {
  "sam": {"name": "sam", "rho": 0.1},
  "distill": {"name": "distill", "teacher": "wide", "alpha": 0.5},
}
WIDE = {"wide": {"model": {"width_multiplier": 0.1}}}
# Of a step; SAM's takes two and a half as long.
STEP = {"plain": 0.01, "sam": 0.025, "distill": 0.0101, "wide": 0.05}


def comparison(**entries):
  compare = {"arms": ARMS, "seeds": (0, 1), "teachers": WIDE, **entries}
  return copy.deepcopy({**BASE, "compare": compare})


@pytest.fixture
def trained(monkeypatch):
  """The folders of what is trained, which takes no time here."""
  folders = []

  def train(self, folder):
    if folder.has("result.json"):
      return folder.read("result.json")
    folders.append(folder.path)
    with folder.training():
      name = folder.path.name
      if name.startswith("seed="):
        name = folder.path.parent.name.partition(",")[0]
      epochs = self.config["training"]["epochs"]
      result = {
        "epoch": epochs,
        "step": 100 * epochs,
        "test/accuracy": 0.5 + 0.01 * self.seed,
        "validation/accuracy": 0.5,
        "train_seconds": 99.0,
        "step_seconds": STEP[name] * (1 + self.seed),
        "params": 10,
        "macs": 20,
      }
      folder.write("result.json", result)
    return result

  monkeypatch.setattr(Trial, "train", train)
  return folders


def command(entries, folder):
  return f"train {entries} {folder}"


def leaves(trial):
  return flatten(json.loads(json.dumps(trial.config)))


def test_arms_differ_in_their_technique_and_seeds_in_nothing_else(tmp_path):
  _, _, arms = plan(comparison(), tmp_path)
  assert [(each.arm, each.trial.seed) for each in arms] == [
    (arm, seed) for seed in (0, 1) for arm in ("plain", "sam", "distill")
  ]
  for each in arms:
    expected = flatten({**BASE, "seed": each.trial.seed})
    expected = {**expected, "export.precisions": ["float32"]}
    for key, value in ARMS.get(each.arm, {}).items():
      expected[f"techniques[1].{key}"] = value
    if each.arm == "distill":
      expected["techniques[1].teacher"] = str(tmp_path / "teachers/wide")
    assert leaves(each.trial) == expected
  assert not list(tmp_path.iterdir())


def test_a_teacher_differs_in_what_is_told(tmp_path):
  _, (wide,), _ = plan(comparison(), tmp_path)
  changed = {"model.width_multiplier": 0.1}
  assert wide.entries == changed
  expected = {**flatten(BASE), "export.precisions": ["float32"], **changed}
  assert leaves(wide.trial) == expected
  # Another name's arguments are its own alone.
  net = {"name": "mobilenet_v2", "width_multiplier": 0.35, "stem": "small"}
  config = comparison(teachers={"wide": {"model": net, "techniques": ()}})
  _, (wide,), _ = plan(config, tmp_path)
  assert wide.trial.config["model"] == net
  assert not wide.trial.techniques


def test_several_teachers_and_folders_of_other_runs(tmp_path):
  several = {"name": "distill", "teacher": ("wide", "runs/other")}
  _, _, (_, arm) = plan(
    comparison(arms={"both": several}, seeds=(0,)), tmp_path
  )
  teachers = arm.trial.config["techniques"][1]["teacher"]
  assert teachers == (str(tmp_path / "teachers/wide"), "runs/other")


def test_what_is_done_is_not_done_again(tmp_path, trained):
  found = run(comparison(), tmp_path, command, "compare")
  # Distillation costs no more, but for a hundredth; SAM is trained anew.
  assert [str(each.relative_to(tmp_path)) for each in trained] == [
    "teachers/wide",
    *("plain/seed=0", "sam/seed=0", "distill/seed=0"),
    *("plain/seed=1", "sam/seed=1", "distill/seed=1"),
    *("sam,epochs=4/seed=0", "sam,epochs=4/seed=1"),
  ]
  for row in found["runs"]:
    folder = tmp_path / row["run"]
    recorded = json.loads((folder / "config.json").read_text())
    assert recorded["training"]["epochs"] == row["epochs"]
    assert recorded["seed"] == row["seed"]
    assert str(folder) in row["provenance"]["command"]
  assert "'training.epochs': 4" in found["runs"][-1]["provenance"]["command"]
  assert found["provenance"]["command"] == "compare"
  epochs, time = ["equal epochs"], ["equal time"]
  both = epochs + time
  budgets = [row["budgets"] for row in found["runs"]]
  assert budgets == [*[both, epochs, both] * 2, time, time]
  # The steps' own seconds: 100 an epoch; of two seeds, one twice as slow.
  sam = {r["budget"]: r for r in found["verdicts"] if r["arm"] == "sam"}
  assert sam["equal epochs"]["seconds"] == pytest.approx(1.5 * 25)
  assert sam["equal time"]["seconds"] == pytest.approx(1.5 * 10)
  assert sam["equal time"]["seconds_ratio"] == pytest.approx(1)

  del trained[:]
  again = run(comparison(), tmp_path, command, "compare")
  assert trained == []
  assert again["runs"] == found["runs"]
  assert again["verdicts"] == found["verdicts"]
  written = json.loads((tmp_path / "comparison.json").read_text())
  assert written == json.loads(json.dumps(again))
  # A further seed needs no run of the others, but for another median's epochs.
  (tmp_path / "sam" / "seed=1" / "result.json").unlink()
  run(comparison(seeds=(0, 1, 2)), tmp_path, command)
  names = [str(each.relative_to(tmp_path)) for each in trained]
  assert names == [
    "sam/seed=1",
    *("plain/seed=2", "sam/seed=2", "distill/seed=2", "sam,epochs=4/seed=2"),
  ]


def test_without_time_nothing_is_trained_for_it(tmp_path, trained):
  found = run(comparison(time=False), tmp_path, command)
  assert len(trained) == 7
  assert {row["budget"] for row in found["verdicts"]} == {"equal epochs"}


@pytest.mark.parametrize(
  ("plain", "own", "epochs"),
  [
    ([0.1] * 3, [0.2] * 3, 5),
    ([0.1] * 3, [0.104] * 3, 10),  # 9.6
    ([0.1] * 3, [0.06] * 3, 10),  # Not more.
    ([0.1] * 3, [9.0] * 3, 1),  # Not none.
    ([0.1, 0.1, 9.9], [0.2, 9.9, 0.2], 5),  # One slow run each.
  ],
)
def test_equal_time_is_the_nearest_epoch(plain, own, epochs):
  runs = [
    {"arm": arm, "epochs": 10, "step_seconds": seconds}
    for arm, each in (("plain", plain), ("own", own))
    for seconds in each
  ]
  assert epochs_in_time(runs, "own") == epochs
  assert epochs_in_time(runs, "plain") == 10
  assert statistics.median(plain) == 0.1


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
  tmp_path, trained, entries, message
):
  with pytest.raises(UserError, match=message):
    run(comparison(**entries), tmp_path / "new", command)
  assert trained == []
  assert not (tmp_path / "new").exists()


def test_what_the_config_lacks_is_told(tmp_path):
  with pytest.raises(UserError, match=r"config\.compare: missing"):
    plan(BASE, tmp_path)
  config = comparison()
  config["training"]["epochs"] = 1
  with pytest.raises(UserError, match=r"config\.compare\.time: True needs"):
    plan(config, tmp_path)
  del config["optimizer"]
  with pytest.raises(UserError, match=r"^config\.optimizer: missing"):
    plan(config, tmp_path)
