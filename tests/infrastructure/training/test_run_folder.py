import json
import os
import re
import struct
import subprocess

import pytest
from tensorboardX.proto import event_pb2

from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder, provenance
from effarch.infrastructure.training import run_folder as module
from effarch.infrastructure.training.run_folder import MetricLog

CONFIG = {"seed": 0, "model": {"width": 0.5}, "techniques": ({"name": "a"},)}


def trained(path):
  """A folder in which training has begun."""
  folder = RunFolder.open(path, CONFIG)
  MetricLog(folder, 0).close()
  return folder


def test_notes_every_start_of_training(tmp_path):
  for command in ("first", "second"):
    folder = RunFolder.open(tmp_path / "run", CONFIG, command)
    with folder.training():
      pass
  RunFolder.open(tmp_path / "run", CONFIG, "only looked at")
  starts = folder.read_lines("provenance.jsonl")
  assert [start["command"] for start in starts] == ["first", "second"]
  for start in starts:
    assert start["versions"]["jax"]
    assert start["device"]
  assert folder.read("config.json") == json.loads(json.dumps(CONFIG))


def test_a_broken_note_is_mended_by_the_next_start(tmp_path):
  folder = RunFolder.open(tmp_path, CONFIG, "again")
  (tmp_path / "provenance.jsonl").write_text('{"command": "a"}\n{"comm')
  with folder.training():
    pass
  starts = folder.read_lines("provenance.jsonl")
  assert [start["command"] for start in starts] == ["a", "again"]


def test_two_do_not_train_in_one_folder(tmp_path):
  folder = RunFolder.open(tmp_path, CONFIG)
  with folder.training():
    other = RunFolder.open(tmp_path, CONFIG)
    with (
      pytest.raises(UserError, match="another process trains"),
      other.training(),
    ):
      pass
  with other.training():
    pass


def test_another_config_is_refused_while_one_is_trained(tmp_path):
  folder = RunFolder.open(tmp_path, CONFIG)
  with (
    folder.training(),
    pytest.raises(UserError, match=r"config\.seed=0, not 7"),
  ):
    RunFolder.open(tmp_path, {**CONFIG, "seed": 7})
  assert folder.read("config.json")["seed"] == 0


def test_the_config_is_that_of_the_training(tmp_path):
  """Whoever opened the folder last, before anyone trained in it."""
  folder = RunFolder.open(tmp_path, CONFIG)
  other = RunFolder.open(tmp_path, {**CONFIG, "seed": 7})
  with folder.training():
    MetricLog(folder, 0).close()
  assert folder.read("config.json")["seed"] == 0
  with (
    pytest.raises(UserError, match=r"config\.seed=0, not 7"),
    other.training(),
  ):
    pass


def test_the_commit_is_that_of_the_code(tmp_path, monkeypatch):
  monkeypatch.setattr(module, "__file__", str(tmp_path / "code.py"))
  monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
  assert provenance()["commit"] is None
  (tmp_path / "code.py").write_text("old")
  identity = ("-c", "user.name=x", "-c", "user.email=x")
  for words in (["init"], ["add", "."], ["commit", "-m", "x"]):
    subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True)
  commit = provenance()["commit"]
  assert re.fullmatch("[0-9a-f]{40}", commit)
  (tmp_path / "code.py").write_text("new")
  assert provenance()["commit"] == f"{commit}-dirty"


def test_a_mistake_before_training_can_be_mended_in_place(tmp_path):
  RunFolder.open(tmp_path, {**CONFIG, "seed": 7})
  assert RunFolder.open(tmp_path, CONFIG).read("config.json")["seed"] == 0


def test_data_may_move(tmp_path):
  old, new = ({**CONFIG, "data": {"path": p}} for p in ("old", "new"))
  MetricLog(RunFolder.open(tmp_path, old), 0).close()
  folder = RunFolder.open(tmp_path, new)
  assert folder.read("config.json")["data"]["path"] == "new"


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
  folder = trained(tmp_path)
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


def events(folder):
  """What TensorBoard would read: framed protocol buffers, in time's order."""
  for file in sorted((folder / "tensorboard").iterdir()):
    content = file.read_bytes()
    while content:
      (length,) = struct.unpack_from("<Q", content)
      yield event_pb2.Event.FromString(content[12 : 12 + length])
      content = content[12 + length + 4 :]


def test_tensorboard_gets_every_number_and_forgets_the_dropped(tmp_path):
  for start, steps in ((0, (1, 2, 3)), (1, (2,))):
    log = MetricLog(RunFolder(tmp_path), start)
    for step in steps:
      log.write(step, {"train/loss": step + start / 4, "epoch": step})
    log.close()
  seen = {}
  for event in events(tmp_path):
    if event.session_log.status == event_pb2.SessionLog.START:
      seen = {k: v for k, v in seen.items() if k[1] < event.step}
    for value in event.summary.value:
      seen[value.tag, event.step] = value.simple_value
  assert seen == {
    ("train/loss", 1): 1.0,
    ("epoch", 1): 1.0,
    ("train/loss", 2): 2.25,
    ("epoch", 2): 2.0,
  }


def test_says_what_is_no_run(tmp_path):
  with pytest.raises(UserError, match=r"holds no config\.json; not a run"):
    RunFolder(tmp_path).read("config.json")
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(UserError, match=r"config\.json: "):
    RunFolder(tmp_path).read("config.json")
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="workdir"):
    RunFolder.open(tmp_path / "file" / "run", CONFIG)
