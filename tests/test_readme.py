"""Every command that the README shows runs, at small sizes."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from effarch.infrastructure.runtime import LiteRTModel

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [
  line.split("  #")[0].strip()
  for kind, block in BLOCKS
  if not kind
  for line in block.splitlines()
]
# CI runs `make demo` and `make test` themselves; benchmarks need PyTorch and
# minutes, and a test of their own runs them shortened.
ELSEWHERE = {
  "make demo",
  "make test",
  "pip install torch",
  "python -m benchmarks.train_step",
}
# Overrides that make a training short, on the images that the test makes.
SHORT = [
  "--config.training.epochs=1",
  "--config.training.batch_size=8",
  "--config.model.width_multiplier=0.05",
]
SHORT_SEQUENCES = [
  *SHORT[:2],
  "--config.model.features=16",
  "--config.model.hidden_features=8",
]
FEW = [
  f"--config.data.num_{part}=16" for part in ("train", "validation", "test")
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Twelve images of each of two classes, for training and for the test."""
  folder = tmp_path_factory.mktemp("images")
  generator = np.random.default_rng(0)
  for part in ("train", "test"):
    for name in ("cat", "dog"):
      (folder / part / name).mkdir(parents=True)
      for number in range(12):
        pixels = generator.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        file = folder / part / name / f"{number}.png"
        Image.fromarray(pixels).save(file)
  return folder


def test_readme_shows_the_commands():
  assert {"make demo", "make test"} <= set(COMMANDS)
  modules = {c.split()[2] for c in COMMANDS if c.startswith("python -m")}
  there = {
    f"experiments.{file.stem}"
    for file in (ROOT / "experiments").glob("*.py")
    if file.stem not in ("__init__", "command")
  }
  assert there <= modules


def test_every_command_runs(images, tmp_path):
  """In README's order, for some use what others made."""
  for command in COMMANDS:
    if command in ELSEWHERE:
      continue
    command = command.replace("runs/", f"{tmp_path}/runs/")
    words = shlex.split(command.replace("data/cifar10-jpeg", str(images)))
    assert words[:2] == ["python", "-m"], command
    words[0] = sys.executable
    if "configs/lra" in command:
      words += [*SHORT_SEQUENCES, *FEW, f"--workdir={tmp_path}/runs/{command}"]
    elif "configs/sequence" in command:
      (tmp_path / "text.txt").write_text("to be or not to be " * 500)
      words.remove("--config.data.path=text.txt")
      words += [*SHORT_SEQUENCES, f"--config.data.path={tmp_path}/text.txt"]
      words += [f"--workdir={tmp_path}/runs/sequence/language/mamba2"]
    elif "experiments.train" in words:
      words += SHORT
      words += [
        "--config.data.name=image_folder",
        f"--config.data.path={images}",
      ]
      places = {
        "configs/networks": "networks",
        "weights=int4": "rounded",
        "configs/quantization": "quantization",
        "configs/survey": "survey/cifar10/w=0.25,seed=1",
      }
      place = next(found for part, found in places.items() if part in command)
      words.append(f"--workdir={tmp_path}/runs/{place}")
      start = f"weights=int4,start={tmp_path}/runs/quantization"
      words = [word.replace("weights=int4", start) for word in words]
    if "experiments.measure" in words:
      words += [f"--workdir={tmp_path}/runs/measure"]
    if "experiments.compare" in words:
      # What distills asks for a teacher, and what is judged for a second epoch.
      words += ["--config.training.epochs=2", SHORT[2]]
      words += ["--config.compare.arms={'sam': {'name': 'sam'}}"]
      words += ["--config.compare.teachers={}", "--config.compare.seeds=(0,)"]
      words += [f"--workdir={tmp_path}/runs/compare"]
    if "experiments.strategy" in words:
      words += [*SHORT[:2], "--config.model.width_multiplier=0.2"]
      words += ["--config.strategy.limits=('size_bytes<=0.6x',)"]
      small = {"small": {"model": {"width_multiplier": 0.05}}}
      words += [f"--config.strategy.shrink={small}"]
      words += ["--config.strategy.improve={}", "--config.strategy.seeds=(0,)"]
      words += [f"--workdir={tmp_path}/runs/strategy"]
    if "experiments.pareto" in words:
      words += SHORT[:2]
      if "configs/digits.py" in command:
        words += ["--config.study.grid.model.width_multiplier=(0.05,)"]
        if "--workdir" not in command:
          words += [f"--workdir={tmp_path}/runs/digits"]
      else:
        words += [f"--workdir={tmp_path}/runs/cifar10"]
    done = subprocess.run(
      words,
      cwd=ROOT,
      env={**os.environ, "COLUMNS": "200"},
      capture_output=True,
      text=True,
      timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_programs_run_and_find_what_they_say(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  counts, replaces, rounds = (b for kind, b in BLOCKS if kind == "python")
  exec(rounds, names := {})
  answers = LiteRTModel(names["file"])(np.asarray(names["images"][:1]))
  expected = names["rounded"](names["images"][:1])
  np.testing.assert_allclose(answers, expected, atol=0.05)
  exec(replaces, names := {})
  assert capsys.readouterr().out == f"{names['told']}\n"
  assert "blocks.0.mixer.query" in names["told"].replaced
  exec(counts, names := {})
  told = capsys.readouterr().out
  report = names["report"]
  assert f"{report.by_module['hidden'].macs} {report.params}" in told
  assert "of the ceilings" in told
  assert (tmp_path / "cost.csv").read_text() == report.to_csv()


def result(name):
  return json.loads((ROOT / "results" / name).read_text())


def test_cifar_table_is_the_runs():
  rows = result("cifar10_jpeg_cpu.json")
  assert len(rows) == 4
  assert all(row["differs"] == 0 for row in rows if row["precision"] != "int8")
  for row in rows:
    cells = (
      str(row["config"]["model.width_multiplier"]),
      f"{row['params']:,}",
      f"{row['train_seconds']:.0f} s",
      row["precision"],
      f"{row['size_bytes']:,} bytes",
      f"{100 * row['accuracy']:.1f} %",
      f"{row['latency_us']:.0f} µs",
    )
    assert f"| {' | '.join(cells)} |" in TEXT


def test_step_table_is_the_runs():
  rows = result("train_step_cpu.json")["rows"]
  for width in {row["width"] for row in rows}:
    ours, *others = [row for row in rows if row["width"] == width]
    cells = [str(width), f"{ours['images_per_second']:,.0f}"]
    for row in others:
      low, high = row["effarch_ratio_quartiles"]
      ratio = f"{row['effarch_ratio']:.2f}x ({low:.2f} to {high:.2f})"
      cells += [f"{row['images_per_second']:,.0f}", ratio]
    assert f"| {' | '.join(cells)} |" in TEXT
