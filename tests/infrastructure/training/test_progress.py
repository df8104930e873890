import io

import pytest
from rich.console import Console

from effarch.infrastructure.training import Loop
from effarch.infrastructure.training import progress as module

LOOP = Loop(epochs=2, batch_size=10)
ROW = {"epoch": 1, "train/loss": 0.5, "validation/accuracy": 0.75}


@pytest.fixture
def clock(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
  return now


def run(clock, title="runs/[a]"):
  with module.Progress(title, LOOP, 4, 0) as progress:
    for _ in range(4):
      clock[0] += 2.0
      progress.advance({"loss": 0.5, "accuracy": 0.25}, 1)
    progress.evaluated(ROW)


def test_plain_lines_tell_speed_and_time_left(clock, capsys):
  run(clock)
  # The first step compiled: 3 steps of 10 examples in 6 s, 4 steps to go.
  assert capsys.readouterr().out == (
    "runs/[a]: epoch 1/2 train/loss 0.5000 validation/accuracy 0.7500 "
    "5 examples/s 0:08 left\n"
  )


def test_a_resumed_run_says_so(clock, capsys):
  with module.Progress("run", LOOP, 4, 1):
    pass
  assert capsys.readouterr().out == "run: goes on after epoch 1\n"


def test_a_terminal_gets_a_bar(clock, monkeypatch):
  out = io.StringIO()
  console = Console(file=out, force_terminal=True, width=200)
  monkeypatch.setattr(module, "Console", lambda: console)
  run(clock)
  text = out.getvalue()
  assert "loss 0.5000 accuracy 0.2500" in text
  assert "5 examples/s" in text
  assert "epoch 1/2" in text
  assert "runs/[a]" in text
