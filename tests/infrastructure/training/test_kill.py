"""`kill -9` at random moments of real processes, then the same numbers."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import chex
import orbax.checkpoint as ocp

ROOT = pathlib.Path(__file__).parents[3]
KILLS = 10


def start(workdir: pathlib.Path) -> subprocess.Popen:
  command = [
    *(sys.executable, "-m", "experiments.train"),
    *("--config=configs/digits.py:w=0.05", f"--workdir={workdir}"),
    *("--config.training.epochs=60", "--config.training.evaluate_every=1"),
  ]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env={**os.environ, "PYTHONWARNINGS": "ignore"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(workdir: pathlib.Path) -> str:
  process = start(workdir)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return output


def checkpoints(workdir: pathlib.Path) -> dict[int, object]:
  """Every array that the run kept, by step."""
  return {
    int(step.name): [
      ocp.StandardCheckpointer().restore(step / item)
      for item in ("model", "optimizer")
    ]
    for step in (workdir / "checkpoints").iterdir()
    if step.name.isdigit()
  }


def resumed_epoch(line: str) -> int:
  match = re.search(r"goes on after epoch (\d+)", line)
  return int(match[1]) if match else 0


def test_killed_at_ten_random_moments_ends_with_the_same_bits(tmp_path):
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  finish(undisturbed)
  generator = random.Random(0)
  kills, begun = 0, []
  while kills < KILLS:
    process = start(killed)
    # Two kills fall anywhere, imports included. The others wait until this
    # start has told of an epoch of its own, and fall soon after.
    if kills % 5:
      assert process.stdout is not None
      line = process.stdout.readline()
      begun.append(resumed_epoch(line))
      if "goes on" in line:
        process.stdout.readline()
      time.sleep(generator.uniform(0.0, 0.6))
    else:
      time.sleep(generator.uniform(0.0, 6.0))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended already"
    kills += 1
  begun.append(resumed_epoch(finish(killed).split("\n")[0]))
  # Each start went on from what the one before had reached.
  assert begun == sorted(begun)
  assert len(set(begun)) > KILLS // 2, begun
  assert (killed / "metrics.jsonl").read_bytes() == (
    undisturbed / "metrics.jsonl"
  ).read_bytes()
  times = ("train_seconds", "step_seconds")
  read = lambda folder: {  # noqa: E731
    line
    for line in (folder / "result.json").read_text().splitlines()
    if not any(name in line for name in times)
  }
  assert read(killed) == read(undisturbed)
  chex.assert_trees_all_equal(checkpoints(killed), checkpoints(undisturbed))
