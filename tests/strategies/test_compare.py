"""A comparison's runs, each of them trained once, and their times."""

import json
import statistics

import pytest

from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.strategies.compare import epochs_in_time, run

# Of a step; SAM's takes two and a half as long.
STEP = {"plain": 0.01, "sam": 0.025, "distill": 0.0101, "wide": 0.05}


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


def comparison(base, **entries):
  compare = {
    "arms": {
      "sam": {"name": "sam"},
      "distill": {"name": "distill", "teacher": "wide"},
    },
    "seeds": (0, 1),
    "teachers": {"wide": {}},
    **entries,
  }
  return {**base, "compare": compare}


def command(entries, folder):
  return f"train {entries} {folder}"


def test_what_is_done_is_not_done_again(tmp_path, base, trained):
  found = run(comparison(base), tmp_path, command, "compare")
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
  again = run(comparison(base), tmp_path, command, "compare")
  assert trained == []
  assert again["runs"] == found["runs"]
  assert again["verdicts"] == found["verdicts"]
  written = json.loads((tmp_path / "comparison.json").read_text())
  assert written == json.loads(json.dumps(again))
  # A further seed needs no run of the others, but for another median's epochs.
  (tmp_path / "sam" / "seed=1" / "result.json").unlink()
  run(comparison(base, seeds=(0, 1, 2)), tmp_path, command)
  names = [str(each.relative_to(tmp_path)) for each in trained]
  assert names == [
    "sam/seed=1",
    *("plain/seed=2", "sam/seed=2", "distill/seed=2", "sam,epochs=4/seed=2"),
  ]


def test_without_time_nothing_is_trained_for_it(tmp_path, base, trained):
  found = run(comparison(base, time=False), tmp_path, command)
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


def test_nothing_runs_before_all_is_checked(tmp_path, base, trained):
  with pytest.raises(UserError, match="seeds: -1"):
    run(comparison(base, seeds=(0, -1)), tmp_path / "new", command)
  assert trained == []
  assert not (tmp_path / "new").exists()
