import json
import os

import pytest

from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder
from effarch.infrastructure.training.run_folder import MetricLog

CONFIG = {"seed": 0, "model": {"width": 0.5}, "techniques": ({"name": "a"},)}


def test_opens_again_with_the_same_config_and_notes_every_start(tmp_path):
  RunFolder.open(tmp_path / "run", CONFIG, "first")
  folder = RunFolder.open(tmp_path / "run", CONFIG, "second")
  starts = folder.read_lines("provenance.jsonl")
  assert [start["command"] for start in starts] == ["first", "second"]
  for start in starts:
    assert start["versions"]["jax"]
    assert start["device"]
  assert folder.read("config.json") == json.loads(json.dumps(CONFIG))


@pytest.mark.parametrize(
  ("other", "message"),
  [
    ({**CONFIG, "seed": 1}, "config.seed=0, not 1"),
    ({**CONFIG, "model": {"width": 1.0}}, "config.model.width=0.5, not 1.0"),
    (
      {**CONFIG, "techniques": ({"name": "b"},)},
      r"config.techniques\[0\].name='a', not 'b'",
    ),
    ({**CONFIG, "new": 1}, "config.new=None, not 1"),
  ],
)
def test_refuses_another_config_and_keeps_what_is_there(
  tmp_path, other, message
):
  folder = RunFolder.open(tmp_path, CONFIG)
  with pytest.raises(UserError, match=message):
    RunFolder.open(tmp_path, other)
  assert folder.read("config.json")["seed"] == 0


def test_a_write_that_dies_leaves_the_old_content(tmp_path, monkeypatch):
  folder = RunFolder(tmp_path)
  folder.write("result.json", {"old": 1})

  def dying(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "replace", dying)
  with pytest.raises(KeyboardInterrupt):
    folder.write("result.json", {"new": 2})
  assert folder.read("result.json") == {"old": 1}


def test_reads_only_whole_lines(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
  folder = RunFolder(tmp_path)
  assert folder.read_lines("metrics.jsonl") == [{"step": 1}, {"step": 2}]
  assert folder.read_lines("absent.jsonl") == []


def test_log_drops_what_came_after_the_checkpoint(tmp_path):
  folder = RunFolder(tmp_path)
  for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    log = MetricLog(folder, start)
    for step in steps:
      log.write(step, {"loss": step + start / 10})
    log.close()
  assert folder.read_lines("metrics.jsonl") == [
    {"step": 1, "loss": 1.0},
    {"step": 2, "loss": 2.0},
    {"step": 3, "loss": 3.2},
    {"step": 4, "loss": 4.2},
  ]


def test_says_what_is_no_run(tmp_path):
  with pytest.raises(UserError, match=r"holds no config\.json; not a run"):
    RunFolder(tmp_path).read("config.json")
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(UserError, match=r"config\.json: "):
    RunFolder(tmp_path).read("config.json")
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="workdir"):
    RunFolder.open(tmp_path / "file" / "run", CONFIG)
