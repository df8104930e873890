"""Benchmarks of convolutions run, shortened; no time is asserted."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from benchmarks import blocks, convolutions, depthwise


def run(monkeypatch, module, tmp_path, *words):
  """What a benchmark writes."""
  file = tmp_path / "out.json"
  monkeypatch.setattr(sys, "argv", ["x", f"--json={file}", *words])
  module.main()
  return json.loads(file.read_text())["rows"]


def test_depthwise(monkeypatch, tmp_path):
  monkeypatch.setattr(depthwise, "_ROUNDS", 1)
  monkeypatch.setattr(depthwise, "_TURN_SECONDS", 0.0001)
  layers = (
    depthwise.Layer("a", 2, 6, 4, 3, 2),
    depthwise.Layer("b", 1, 5, 3, 5),
  )
  monkeypatch.setattr(depthwise, "LAYERS", layers)
  rows = run(monkeypatch, depthwise, tmp_path)
  assert [row["name"] for row in rows] == ["a", "a", "b", "b"]
  for row in rows:
    assert max(row["error"].values()) < 1e-5
    low, middle, high = row["ratio"]["grouped"]
    assert 0 < low <= middle <= high
    assert row["ratio"]["effarch"] == [1, 1, 1]


def test_contractions(monkeypatch, tmp_path):
  monkeypatch.setattr(convolutions, "BATCH", 2)
  monkeypatch.setattr(convolutions, "CALLS", 1)
  monkeypatch.setattr(convolutions, "ROUNDS", 1)
  monkeypatch.setattr(convolutions, "LAYERS", ((4, 3, 2),))
  rows = run(monkeypatch, convolutions, tmp_path)
  assert len(rows) == 3
  for row in rows:
    assert {"effarch", "XLA"} <= set(row["milliseconds"])
    assert min(row["milliseconds"].values()) > 0


def test_contractions_that_differ_are_told(monkeypatch):
  monkeypatch.setattr(convolutions, "BATCH", 2)
  monkeypatch.setattr(
    convolutions,
    "taps_output",
    lambda x, kernel: 2 * convolutions.xla(x, kernel),
  )
  with pytest.raises(AssertionError, match="taps: off by"):
    convolutions.layer_rows(4, 3, 2)


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setattr(blocks, "SHAPES", ((6, 8),))
  monkeypatch.setattr(blocks, "CALLS", 1)
  monkeypatch.setattr(blocks, "ROUNDS", 1)
  monkeypatch.setattr(blocks, "BATCH", 2)


def test_blocks(small, monkeypatch, tmp_path, capsys):
  names = ["conv_norm", "separable"]
  plain, separable = run(monkeypatch, blocks, tmp_path, "--blocks", *names)
  assert [plain["block"], separable["block"]] == names
  # Folded, with a bias of each channel; LiteRT's file holds all weights.
  assert plain["params"] == 9 * 64 + 8
  assert plain["macs"] == 36 * 9 * 64
  assert plain["file_bytes"] > 4 * plain["params"]
  told = capsys.readouterr().out
  part = separable["macs"] / plain["macs"]
  assert f"({part:.2f}x)" in told
  # The table alone is the same one.
  words = ["x", f"--table={tmp_path / 'out.json'}"]
  monkeypatch.setattr(sys, "argv", words)
  blocks.main()
  assert capsys.readouterr().out == told


def test_a_training_step_has_all_gradients(small):
  layer = blocks.block("conv_norm", 8)
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 8))
  (_, statistics), (params, inputs) = blocks.step_call(layer, x)()
  assert inputs.shape == x.shape
  for tree in (statistics, params, inputs):
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(tree))


def test_docs_tell_what_the_run_found():
  root = pathlib.Path(__file__).parents[2]
  rows = json.loads((root / "results/depthwise_cpu.json").read_text())["rows"]
  text = (root / "docs/convolution.md").read_text()
  for passes in ("forward", "forward+backward"):
    cells = [passes]
    for rival in ("grouped", "PyTorch"):
      ratios = [r["ratio"][rival][1] for r in rows if r["passes"] == passes]
      assert len(ratios) == len(depthwise.LAYERS)
      mean = np.exp(np.mean(np.log(ratios)))
      cells.append(f"{mean:.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")
    assert f"| {' | '.join(cells)} |" in text
  found = json.loads((root / "results/convolutions_cpu.json").read_text())
  assert convolutions.summary(found["rows"]) in text
  found = json.loads((root / "results/blocks_cpu.json").read_text())["rows"]
  for size, _ in blocks.SHAPES:
    assert blocks.table([r for r in found if r["size"] == size]) in text
  found = json.loads((root / "results/train_step_xeon_cpu.json").read_text())
  for row in found["rows"]:
    if row["step"] == "PyTorch":
      told = f"{row['effarch_ratio']:.2f}"
      assert f"{told} of PyTorch's" in text or f"{told} at width 1.0" in text
