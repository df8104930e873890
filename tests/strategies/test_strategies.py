"""Strategies in a world where training takes no time and its results are known.

There a model's accuracy grows with its width, and with what techniques add; its
eight-bit file has 1000 bytes for each hundredth of the width, the float one
four times as many.
"""

import copy
import itertools
import json

import pytest

from effarch.automation.trial import Trial
from effarch.config import flatten
from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder
from effarch.strategies import GrowImproveShrink, ShrinkAndImprove
from effarch.strategies import lab as lab_module
from effarch.strategies.lab import Lab, validated
from effarch.strategies.limits import Limit
from effarch.strategies.story import tell_story

# What techniques add to validation accuracy; the test set says the opposite.
HELPS = {"distill": 0.06, "mixup": -0.02, "label_smoothing": 0.01}
DISTIL = {"techniques": ({"name": "distill", "teacher": "start"},)}
WIDTHS = {
  f"w{hundredths}": {"model": {"width_multiplier": hundredths / 100}}
  for hundredths in (5, 10, 20, 30)
}
SHRINK = {
  "limits": ("size_bytes<=0.5x",),
  "shrink": WIDTHS,
  "improve": {
    "mixup": {"techniques": ({"name": "mixup"},)},
    "distil": DISTIL,
    "longer": {"training": {"epochs": 20}},
  },
  "refine": {
    "rounded": {
      "techniques": ({"name": "quantize"},),
      "export": {"precisions": ("trained",)},
    }
  },
  "tries": 2,
  "keep": 1,
  "seeds": (0, 1),
}
GROW = {
  "limits": ("size_bytes<=1x",),
  "grow": {"w60": {"model": {"width_multiplier": 0.6}}},
  "improve": SHRINK["improve"],
  "shrink": {
    "alone": {},
    "taught": {"techniques": ({"name": "distill", "teacher": "grown"},)},
  },
  "seeds": (0, 1),
}


class StoppedError(Exception):
  pass


@pytest.fixture
def world(monkeypatch, base):
  """The folders of what is trained; `stop_at` that many it stops."""

  class World:
    def __init__(self):
      self.trained = []
      self.stop_at = None
      self.config = copy.deepcopy(base)
      self.config["model"]["width_multiplier"] = 0.4
      self.config["techniques"] = ()
      self.config["export"] = {"precisions": ("float32", "int8")}

  world = World()

  def files(trial):
    width = trial.config["model"]["width_multiplier"]
    factor = {"float32": 400_000, "int8": 100_000, "trained": 100_000}
    return [
      {
        "precision": name,
        "format": "litert",
        "size_bytes": round(width * factor[name]),
        "latency_us": 100 * width,
      }
      for name in trial.export.precisions
    ]

  def train(self, folder):
    if folder.has("result.json"):
      return
    if len(world.trained) == world.stop_at:
      raise StoppedError
    world.trained.append(folder.path)
    with folder.training():
      folder.write(
        "result.json", {"train_seconds": 2.0, "macs": 7, "params": 5}
      )

  def ship(self, folder):
    used = [t["name"] for t in self.config["techniques"]]
    found = 0.5 + 0.4 * self.config["model"]["width_multiplier"]
    found += sum(HELPS.get(name, 0.0) for name in used)
    found += 0.03 * (self.loop.epochs > 10) + 0.001 * self.seed
    for row in files(self):
      own = found + 0.005 * (row["precision"] == "trained")
      row |= {"validation_accuracy": own, "accuracy": 1.5 - own}
      folder.write(f"artifacts/{row['precision']}.tflite.json", row)

  monkeypatch.setattr(Trial, "train", train)
  monkeypatch.setattr(Trial, "ship", ship)
  monkeypatch.setattr(lab_module, "time_artifacts", lambda folders: None)
  monkeypatch.setattr(
    lab_module,
    "footprints",
    lambda trial: [{**row, "params": 5, "macs": 7} for row in files(trial)],
  )
  # MACs of a width, without tracing it.
  monkeypatch.setattr(
    lab_module,
    "_macs",
    lambda config: 1000 * config["model"]["width_multiplier"],
  )
  return world


def make(kind, world, tmp_path, budget=1000.0, **options):
  strategy = kind(**{**options, "budget": budget})
  told = []
  lab = Lab(
    world.config,
    tmp_path,
    seeds=strategy.seeds,
    budget=budget,
    command=lambda entries, folder: f"train {json.dumps(entries)} {folder}",
    tell=told.append,
  )
  return strategy, lab, told


def run(kind, world, tmp_path, **options):
  strategy, lab, _ = make(kind, world, tmp_path, **options)
  best = strategy.run(lab)
  return best, tell_story(strategy, lab, best, "typed")


KINDS = [(ShrinkAndImprove, SHRINK), (GrowImproveShrink, GROW)]


def test_shrinks_then_improves_by_validation_within_the_limits(world, tmp_path):
  best, story = run(ShrinkAndImprove, world, tmp_path, **SHRINK)
  names = [step["name"] for step in story["steps"]]
  # Of those with 20,000 bytes at most the largest two; w30 has 30,000.
  assert names == [
    *("start", "w20", "w10", "w20+mixup", "w20+distil"),
    *("w20+distil+longer", "w20+distil+longer+rounded"),
  ]
  assert best.candidate.name == story["best"] == names[-1]
  assert story["limits"] == [{"column": "size_bytes", "most": 20_000.0}]
  gains = {step["name"]: step["gain"] for step in story["steps"]}
  assert gains["w20+mixup"] == pytest.approx(-0.02)
  assert gains["w20+distil"] == pytest.approx(0.06)
  assert gains[names[-1]] == pytest.approx(0.005)
  assert all(step["size_bytes"] <= 20_000 for step in story["steps"][1:])
  assert story["after"] > story["before"] > 0


def test_each_candidate_differs_from_its_parent_by_its_step(world, tmp_path):
  strategy, lab, _ = make(ShrinkAndImprove, world, tmp_path, **SHRINK)
  strategy.run(lab)
  by_name = {each.candidate.name: each.candidate for each in lab.tried}
  for tried in lab.tried[1:]:
    ours = flatten(tried.candidate.config)
    parents = flatten(by_name[tried.candidate.parent].config)
    differ = {k.partition("[")[0] for k in ours if ours[k] != parents.get(k)}
    step = tried.candidate.step
    assert differ <= {"model.width_multiplier"} or step not in WIDTHS
    assert differ <= {"techniques"} or step not in ("mixup", "distil")
    assert differ <= {"training.epochs"} or step != "longer"
    assert differ
  taught = by_name["w20+distil"].config["techniques"][0]["teacher"]
  assert taught == tuple(str(tmp_path / "start" / f"seed={n}") for n in (0, 1))
  last = RunFolder(lab.tried[-1].folders[1]).read("config.json")
  assert last["techniques"][0] == {
    "name": "pretrained",
    "folder": str(tmp_path / "w20+distil+longer" / "seed=1"),
  }
  assert [t["name"] for t in last["techniques"][1:]] == ["distill", "quantize"]


def test_grows_improves_and_shrinks_with_what_helped(world, tmp_path):
  best, story = run(GrowImproveShrink, world, tmp_path, **GROW)
  names = [step["name"] for step in story["steps"]]
  assert names == [
    *("start", "w60", "w60+mixup", "w60+distil", "w60+distil+longer"),
    *("alone", "taught"),
  ]
  assert best.candidate.name == "taught"
  assert best.best()["size_bytes"] <= 160_000
  found = best.best([Limit("size_bytes", 40_000)])
  # The start has 0.66, distillation from it adds 0.06 and time 0.03.
  assert validated(found) == pytest.approx(0.66 + 0.06 + 0.06 + 0.03 + 0.0005)
  config = best.candidate.config
  assert config["model"]["width_multiplier"] == 0.4
  assert config["training"]["epochs"] == 20
  grown = tuple(
    str(tmp_path / "w60+distil+longer" / f"seed={n}") for n in (0, 1)
  )
  assert [t.get("teacher") for t in config["techniques"]][1:] == [grown]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_stopped_anywhere_and_started_again_it_tells_the_same(
  kind, options, world, tmp_path
):
  _, whole = run(kind, world, tmp_path / "whole", **options)
  count, world.trained = len(world.trained), []
  folder = tmp_path / "stopped"
  for stop_at in itertools.count(1):
    world.stop_at = stop_at
    try:
      _, again = run(kind, world, folder, **options)
      break
    except StoppedError:
      continue
  assert len(world.trained) == count  # Nothing twice.
  assert stop_at == count
  for story in (whole, again):
    del story["provenance"]
  assert again == whole


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_what_was_measured_before_a_stop_decides_after_it(
  kind, options, world, tmp_path, monkeypatch
):
  _, whole = run(kind, world, tmp_path, **options)
  # Another measurement would find other bytes, and decide otherwise.
  monkeypatch.setattr(lab_module, "footprints", lambda trial: [])
  monkeypatch.setattr(Lab, "_measured", lambda *_: {})
  _, again = run(kind, world, tmp_path, **options)
  assert again["steps"] == whole["steps"]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("budget", [3.0, 5.0, 8.0])
def test_no_more_is_spent_than_the_budget(
  kind, options, budget, world, tmp_path
):
  strategy, lab, told = make(kind, world, tmp_path, budget, **options)
  strategy.run(lab)
  spent = sum(lab.price(each.candidate) for each in lab.tried)
  assert spent <= budget
  assert all("left out; it costs" in line for line in told)
  assert told


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_plans_bound_what_is_done_and_train_nothing(
  kind, options, world, tmp_path
):
  strategy, lab, _ = make(kind, world, tmp_path, **options)
  plan = strategy.plan(lab)
  assert not world.trained
  strategy.run(lab)
  assert len(lab.tried) <= sum(each.candidates for each in plan)
  assert len(world.trained) == 2 * len(lab.tried)


def test_a_finished_run_is_started_with_and_not_trained_again(world, tmp_path):
  config = copy.deepcopy(world.config)
  config["model"]["width_multiplier"] = 0.5
  given = RunFolder.open(tmp_path / "given", config)
  Trial(config).train(given)
  world.trained.clear()
  world.config["model"]["width_multiplier"] = 0.05  # Does not count.
  strategy = ShrinkAndImprove(**SHRINK)
  lab = Lab(
    *(world.config, tmp_path / "lab"),
    given=str(given.path),
    seeds=strategy.seeds,
    budget=100.0,
    command=lambda entries, folder: json.dumps(entries),
    tell=print,
  )
  strategy.run(lab)
  assert lab.tried[0].folders == (str(given.path),)
  assert given.path not in world.trained
  # Half of the run's own 50,000 bytes.
  assert [each.candidate.name for each in lab.tried[1:3]] == ["w20", "w10"]
  w20 = RunFolder(lab.tried[1].folders[0])
  typed = json.loads(w20.read_lines("provenance.jsonl")[-1]["command"])
  assert typed == {"model.width_multiplier": 0.2, "seed": 0}
  (taught,) = [t for t in lab.tried if t.candidate.name == "w20+distil"]
  assert taught.candidate.config["techniques"][0]["teacher"] == str(given.path)


def test_a_start_costs_one_for_each_seed(world, tmp_path):
  _, lab, _ = make(ShrinkAndImprove, world, tmp_path, **SHRINK)
  assert lab.price(lab.start) == 2


def test_what_cannot_fit_is_told_before_anything_is_trained(world, tmp_path):
  options = {**SHRINK, "limits": ("size_bytes<=1KB",)}
  strategy, lab, _ = make(ShrinkAndImprove, world, tmp_path, **options)
  with pytest.raises(UserError) as error:
    strategy.plan(lab)
  assert str(error.value) == (
    "config.strategy.shrink: no model is within size_bytes <= 1,000; the "
    "nearest exceeds it 5.00 times. Name smaller ones"
  )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"shrink": {"w": {"model": {"width": 1}}}},
      r"strategy.shrink.w.model.wid",
    ),
    ({"improve": {"x": {"trainin": {}}}}, r"strategy.improve.x.trainin: unkn"),
  ],
)
def test_impossible_changes_are_told_with_their_place(
  changes, message, world, tmp_path
):
  options = {**SHRINK, **changes}
  strategy, lab, _ = make(ShrinkAndImprove, world, tmp_path, **options)
  with pytest.raises(UserError, match=message):
    strategy.check(lab.start)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"seeds": ()}, r"seeds: \(\) are none"),
    ({"seeds": (1, 1)}, r"seeds: \(1, 1\) are none, or one is there twice"),
    ({"limits": ()}, "limits: names none"),
    ({"budget": 0.0}, "budget: 0.0 is not in"),
    ({"shrink": {}}, "shrink: names no smaller model"),
    ({"tries": 0}, "tries: 0 is not in"),
    ({"improve": {"w5": {}}}, "w5: is no name, or two"),
    ({"improve": {"a b": {}}}, "a b: is no name, or two"),
  ],
)
def test_refuses(changes, message):
  with pytest.raises(ValueError, match=message):
    ShrinkAndImprove(**{**SHRINK, **changes})
