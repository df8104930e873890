import numpy as np
import pytest

from effarch.infrastructure.data import Digits


def test_three_parts_are_disjoint_and_complete():
  parts = {n: Digits().load(n) for n in ("train", "validation", "test")}
  rows = np.concatenate([p.inputs.reshape(len(p), -1) for p in parts.values()])
  assert len(rows) == 1797
  # scikit-learn's set holds no two equal images, so parts that overlapped
  # would show here.
  assert len(np.unique(rows, axis=0)) == 1797
  assert len(parts["test"]) == 360  # A fifth, rounded up


def test_every_class_is_in_proportion():
  for name in ("train", "validation", "test"):
    labels = Digits().load(name).labels
    counts = np.bincount(labels, minlength=10)
    assert counts.min() > 0.8 * len(labels) / 10


def test_seed_decides_the_split():
  first = Digits(split_seed=1).load("test").inputs
  np.testing.assert_array_equal(first, Digits(split_seed=1).load("test").inputs)
  assert not np.array_equal(first, Digits(split_seed=2).load("test").inputs)


def test_refuses_what_is_no_split_or_fraction():
  with pytest.raises(ValueError, match="split: 'dev'"):
    Digits().load("dev")
  with pytest.raises(
    ValueError, match=r"test_fraction: 1.0 is not in \(0, 1\)"
  ):
    Digits(test_fraction=1.0)
