import json
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import quantization
from configs.quantization import cifar10
from effarch.automation.trial import Trial
from effarch.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def pictures(tmp_path):
  """Three classes by their colour."""
  draw = np.random.default_rng(0)
  for split, number in (("train", 50), ("test", 10)):
    for place, name in enumerate("abc"):
      folder = tmp_path / "data" / split / name
      folder.mkdir(parents=True)
      for each in range(number):
        pixels = draw.integers(0, 120, (32, 32, 3)).astype(np.uint8)
        pixels[..., place] += 100
        Image.fromarray(pixels).save(folder / f"{each}.png")
  return tmp_path / "data"


def test_files_of_all_ways_are_made_once_and_compared(
  pictures, tmp_path, monkeypatch, capsys
):
  chosen = ("float32", "int8_tensor_equalized", "int4_gptq", "int4_int8")
  for name in set(quantization.WAYS) - set(chosen):
    monkeypatch.delitem(quantization.WAYS, name)
  monkeypatch.setitem(
    cifar10.NETWORKS,
    "survey_cnn",
    {"name": "survey_cnn", "width_multiplier": 0.05},
  )
  out = tmp_path / "out.json"
  words = ["x", f"--workdir={tmp_path}/runs", f"--data={pictures}"]
  words += [f"--json={out}", "--networks", "survey_cnn", "--epochs", "2", "1"]
  words += ["--trained", "int4_learned"]
  monkeypatch.setattr(sys, "argv", words)
  quantization.main()
  found = json.loads(out.read_text())
  rows = {r["precision"]: r for r in found if r["format"] == "litert"}
  assert [r["format"] for r in found if r["precision"] == "float32"] == [
    "onnx",
    "stablehlo",
    "litert",
  ]
  assert len(found) == len(rows) + 2
  assert set(rows) == {*chosen, "int4_learned"}
  told = capsys.readouterr().out
  assert told.count("\n| survey_cnn | ") == 5 + 1
  sizes = {name: row["size_bytes"] for name, row in rows.items()}
  assert sizes["int4_gptq"] < sizes["int4_int8"]
  assert sizes["int4_int8"] < sizes["int8_tensor_equalized"]
  assert sizes["int8_tensor_equalized"] < sizes["float32"]
  assert "CONV_2D" in rows["float32"]["float_operators"]
  assert rows["int4_learned"]["float_operators"] == []
  assert all(row["differs"] <= 2 for row in found)
  before = out.read_text()
  with monkeypatch.context() as patch:
    patch.delattr("benchmarks.quantization.Trial.train")
    patch.setattr(quantization.Trial, "train", lambda *_: None, raising=False)
    quantization.main()
  assert json.loads(out.read_text()) == json.loads(before)


@pytest.mark.parametrize("network", cifar10.NETWORKS)
@pytest.mark.parametrize("more", ["", ",weights=int4,learned"])
def test_configs_are_possible(network, more):
  trial = Trial(cifar10.get_config(f"{network}{more}").to_dict())
  assert trial.export.precisions == (
    ("trained",) if more else ("float32", "int8", "int4")
  )


def test_an_unknown_network_is_told():
  with pytest.raises(UserError, match="network 'survey' is unknown; did you"):
    cifar10.get_config("network=survey")


def test_the_docs_show_what_was_found():
  rows = json.loads((ROOT / "results/quantization_cpu.json").read_text())
  text = (ROOT / "docs/quantization.md").read_text()
  assert quantization.table(rows) in text
  assert quantization.parity(rows) in text
