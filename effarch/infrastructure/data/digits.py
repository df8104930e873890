"""1,797 handwritten digits, 8x8 grey pixels, that scikit-learn carries."""

from __future__ import annotations

import dataclasses

import numpy as np
from sklearn.datasets import load_digits

from effarch.infrastructure.data.dataset import (
  Dataset,
  Source,
  check_fraction,
  check_split,
  hold_out,
)


@dataclasses.dataclass(frozen=True)
class Digits(Source):
  """The test part of the UCI set, split here since it comes unsplit.

  Args:
    validation_fraction: of what is not test.
    test_fraction: of all.
    split_seed: the same seed gives the same three parts.
    train_fraction: of what is left for training, in (0, 1]; classes stay in
      proportion. For studies of few labels.
  """

  validation_fraction: float = 0.15
  test_fraction: float = 0.2
  split_seed: int = 0
  train_fraction: float = 1.0

  input_shape = (8, 8, 1)
  class_names = tuple("0123456789")

  def __post_init__(self):
    check_fraction("validation_fraction", self.validation_fraction)
    check_fraction("test_fraction", self.test_fraction)
    if not 0 < self.train_fraction <= 1:
      raise ValueError(
        f"train_fraction: {self.train_fraction} is not in (0, 1]"
      )

  def load(self, split: str) -> Dataset:
    """Returns one part; pixels 0 to 16 become 0 to 255."""
    check_split(split)
    features, labels = load_digits(return_X_y=True)
    images = np.asarray(features).reshape(-1, 8, 8, 1)
    dataset = Dataset(
      np.round(images * (255 / 16)).astype(np.uint8),
      np.asarray(labels, np.int32),
      self.class_names,
    )
    rest, test = hold_out(dataset, self.test_fraction, self.split_seed)
    if split == "test":
      return test
    train, validation = hold_out(
      rest, self.validation_fraction, self.split_seed
    )
    if split == "train" and self.train_fraction != 1:
      return hold_out(train, self.train_fraction, self.split_seed)[1]
    return train if split == "train" else validation
