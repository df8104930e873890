"""The benchmark runs, shortened, and its loops do what effarch does."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import augment
from effarch.learning.augment.operations import OPERATIONS, Ranges, operate


@pytest.mark.parametrize("name", augment.NUMPY)
def test_loops_are_effarchs_operations(name):
  image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
  operations = jnp.full((1, 1), OPERATIONS.index(name))
  found = operate(
    jnp.asarray(image[None]), operations, jnp.full((1, 1), -0.3), Ranges(), 128
  )
  for twin in (
    augment.NUMPY[name](image, -0.3),
    np.asarray(augment.PIL[name](Image.fromarray(image), -0.3)),
  ):
    off = np.abs(np.asarray(found[0], int) - twin)
    assert off.max() <= 2 or (name == "rotate" and (off > 0).mean() < 0.05)


def test_augment(monkeypatch, tmp_path):
  monkeypatch.setattr(augment, "_BATCH", 2)
  monkeypatch.setattr(augment, "_ROUNDS", 1)
  monkeypatch.setattr(augment, "_WIDTHS", (0.05,))
  file = tmp_path / "out.json"
  monkeypatch.setattr(sys, "argv", ["augment", f"--json={file}"])
  augment.main()
  found = json.loads(file.read_text())
  assert [row["form"] for row in found["rates"]] == [
    *("effarch", "NumPy, by image", "PIL, by image")
  ]
  (row,) = found["shares"]
  expected = 1 - row["step_ms"] / row["augmented_step_ms"]
  assert row["share"] == pytest.approx(expected)
