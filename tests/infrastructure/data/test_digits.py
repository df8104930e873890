import numpy as np
import pytest
from sklearn.datasets import load_digits

from effarch.infrastructure.data import Digits


def test_three_parts_are_disjoint_and_complete():
  parts = {n: Digits().load(n) for n in ("train", "validation", "test")}
  rows = np.concatenate([p.inputs.reshape(len(p), -1) for p in parts.values()])
  assert len(rows) == 1797
  # scikit-learn's set holds no two equal images, so parts that overlapped
  # would show here.
  assert len(np.unique(rows, axis=0)) == 1797
  sizes = {name: len(part) for name, part in parts.items()}
  # A fifth of all, then 15 % of the rest, rounded up
  assert sizes == {"train": 1221, "validation": 216, "test": 360}


def test_sixteen_greys_become_256_and_keep_their_labels():
  def pairs(images, labels):
    return {
      (image.tobytes(), label)
      for image, label in zip(images, labels.tolist(), strict=True)
    }

  features, labels = load_digits(return_X_y=True)
  expected = np.round(features * 255 / 16).astype(np.uint8)
  assert expected.max() == 255
  parts = (Digits().load(n) for n in ("train", "validation", "test"))
  found = set().union(*(pairs(part.inputs, part.labels) for part in parts))
  assert found == pairs(expected, labels)


def test_every_class_is_in_proportion():
  for name in ("train", "validation", "test"):
    labels = Digits().load(name).labels
    counts = np.bincount(labels, minlength=10)
    assert counts.min() > 0.8 * len(labels) / 10


def test_seed_decides_the_split():
  first = Digits(split_seed=1).load("test").inputs
  np.testing.assert_array_equal(first, Digits(split_seed=1).load("test").inputs)
  assert not np.array_equal(first, Digits(split_seed=2).load("test").inputs)


def test_few_labels_are_some_of_all_and_in_proportion():
  all_of_them, few = Digits().load("train"), Digits(train_fraction=0.05)
  some = few.load("train")
  assert len(some) == 62  # Of 1221, rounded up.
  counts = np.bincount(some.labels, minlength=10)
  assert 5 <= counts.min() <= counts.max() <= 7
  images = {image.tobytes() for image in all_of_them.inputs}
  assert {image.tobytes() for image in some.inputs} < images
  for name in ("validation", "test"):
    np.testing.assert_array_equal(
      few.load(name).inputs, Digits().load(name).inputs
    )


def test_refuses_what_is_no_split_or_fraction():
  with pytest.raises(ValueError, match="split: 'dev'"):
    Digits().load("dev")
  with pytest.raises(
    ValueError, match=r"test_fraction: 1.0 is not in \(0, 1\)"
  ):
    Digits(test_fraction=1.0)
  with pytest.raises(ValueError, match=r"train_fraction: 0.0 is not in"):
    Digits(train_fraction=0.0)
