"""Random numbers that stay, and what every generated source refuses."""

import numpy as np
import pytest

from effarch.infrastructure.data import SOURCES
from effarch.infrastructure.data.generated import Generated

GENERATED = [
  *("associative_recall", "copying", "induction_heads", "listops", "mnist1d"),
  "pathfinder",
]


def test_splits_and_seeds_have_numbers_of_their_own():
  first = [
    Generated(seed=seed).random(split).randint(2**31)
    for seed in (0, 1)
    for split in ("train", "validation", "test")
  ]
  assert len(set(first)) == 6


@pytest.mark.parametrize("name", GENERATED)
@pytest.mark.parametrize(
  ("argument", "value"),
  [
    ("seed", -1),
    ("seed", 2**32),
    ("num_train", 0),
    ("num_validation", -1),
    ("num_test", 0),
  ],
)
def test_what_can_not_be_drawn_is_refused(name, argument, value):
  with pytest.raises(ValueError, match=f"^{argument}: {value} is not"):
    SOURCES[name](**{argument: value})


def test_tokens_are_as_small_as_they_can_be():
  def kept(num_values):
    return SOURCES["associative_recall"](
      num_keys=8, num_values=num_values
    ).token_type

  assert kept(2**15 - 10) is np.int16
  assert kept(2**15 - 9) is np.int32
