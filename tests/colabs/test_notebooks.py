"""Notebooks lie here without outputs, and run from top to bottom.

A notebook's cell tagged `parameters` holds its sizes; tests put smaller ones
there.
"""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parents[2] / "colabs"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# What tests put into the parameters cell.
SMALL = {
  "01_tour": {"EPOCHS": 2, "WIDTH": 0.05},
  "02_attention": {
    "MIXERS": ("full", "local", "linear", "retnet", "fnet"),
    "TOKENS": 12,
    "LENGTHS": (16, 64),
  },
  "03_convolution": {
    "BLOCKS": ("conv_norm", "separable", "rep_vgg"),
    "SIZE": 6,
    "CHANNELS": 8,
    "BATCH": 2,
  },
  "04_low_rank": {
    "EPOCHS": 2,
    "WIDTH": 0.1,
    "RATIOS": (0.5, 0.25),
    "BATCH": 8,
  },
  "06_quantize": {
    "EPOCHS": 2,
    "WIDTH": 0.1,
    "MORE_EPOCHS": 1,
    "EXAMPLES": 20,
  },
  "07_distil": {
    "TEACHER_WIDTH": 0.2,
    "WIDTH": 0.05,
    "EPOCHS": 1,
    "SEEDS": (0,),
    "LOSSES": ("labels alone", "soft labels", "similarity preserving"),
  },
}


def read(path):
  return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_kept_clean(path):
  notebook = read(path)
  nbformat.validate(notebook)
  for cell in notebook.cells:
    if cell.cell_type == "code":
      assert not cell.outputs, "run nbstripout"
      assert cell.execution_count is None, "run nbstripout"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path):
  notebook = read(path)
  (cell,) = [
    c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())
  ]
  sizes = {**SMALL[path.stem], "WORKDIR": str(tmp_path)}
  for name in sizes:
    assert f"{name} = " in cell.source, f"no parameter {name}"
  cell.source = "\n".join(f"{k} = {v!r}" for k, v in sizes.items())
  resources = {"metadata": {"path": str(FOLDER)}}
  NotebookClient(notebook, timeout=300, resources=resources).execute()
  pictures = [
    output
    for cell in notebook.cells
    if cell.cell_type == "code"
    for output in cell.outputs
    if "image/png" in output.get("data", {})
  ]
  assert pictures, "it shows no picture"
