"""Numbers at the ends of intervals."""

import math

import pytest

from effarch.learning.checks import check_within


@pytest.mark.parametrize(
  ("interval", "inside", "outside"),
  [
    ("[0, 1]", (0, 0.5, 1), (-1e-9, 1.1, math.nan)),
    ("[0, 1)", (0, 0.99), (1, -1)),
    ("(0, 1]", (1e-9, 1), (0, 2)),
    ("[1, inf)", (1, 1e9), (0, math.inf, -math.inf)),
  ],
)
def test_ends_are_in_or_out(interval, inside, outside):
  check_within(interval, **{f"v{n}": v for n, v in enumerate(inside)})
  for value in outside:
    with pytest.raises(ValueError) as error:
      check_within(interval, good=inside[0], bad=value)
    assert str(error.value) == f"bad: {value} is not in {interval}"
