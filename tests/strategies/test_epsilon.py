"""Thinned frontiers: what stands for what, against all subsets."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.strategies.epsilon import thin
from effarch.strategies.frontier import non_dominated, objectives

SHARES = (0.0, 0.125, 0.25, 0.5, 1.0)


@st.composite
def cases(draw, size=8):
  """Points of both signs, and what doesn't matter in each objective."""
  width = draw(st.integers(1, 3))
  row = st.lists(st.integers(-8, 8), min_size=width, max_size=width)
  points = np.array(draw(st.lists(row, min_size=1, max_size=size)), float)
  additive = draw(st.lists(st.integers(0, 3), min_size=width, max_size=width))
  relative = draw(
    st.lists(st.sampled_from(SHARES), min_size=width, max_size=width)
  )
  return points, additive, relative


def stands(one, other, additive, relative):
  parts = zip(one, other, additive, relative, strict=True)
  return all(a >= b - plus - share * abs(b) for a, b, plus, share in parts)


@given(cases())
def test_every_point_has_one_that_stands_for_it(case):
  points, additive, relative = case
  kept = points[thin(points, additive, relative)]
  for point in points:
    assert any(stands(one, point, additive, relative) for one in kept)


@given(cases())
def test_none_that_is_kept_is_dominated_and_none_kept_twice(case):
  points, additive, relative = case
  kept = thin(points, additive, relative)
  assert (non_dominated(points) | ~kept).all()
  assert len(np.unique(points[kept], axis=0)) == kept.sum()


@given(cases(size=7))
def test_few_more_are_kept_than_need_be(case):
  points, additive, relative = case
  front = points[non_dominated(points)]
  need = next(
    size
    for size in range(1, len(front) + 1)
    if any(
      all(any(stands(p, q, additive, relative) for p in some) for q in front)
      for some in itertools.combinations(front, size)
    )
  )
  most = need * sum(1 / n for n in range(1, len(front) + 1))
  assert need <= thin(points, additive, relative).sum() <= most


@given(cases())
def test_where_all_matters_only_equal_points_are_one(case):
  points, _, _ = case
  front = points[non_dominated(points)]
  kept = points[thin(points)]
  assert len(kept) == len(np.unique(front, axis=0))


def test_tenth_of_a_point_of_accuracy_and_two_percent_of_bytes():
  rows = [
    {"accuracy": 0.7000, "size_bytes": 98_500},
    {"accuracy": 0.7005, "size_bytes": 100_000},  # Stands for both beside it.
    {"accuracy": 0.7014, "size_bytes": 101_500},
    {"accuracy": 0.7030, "size_bytes": 102_500},  # More accurate
    {"accuracy": 0.7025, "size_bytes": 130_000},
  ]
  points = objectives(rows, ["accuracy"], ["size_bytes"])
  kept = thin(points, additive=(0.001, 0), relative=(0, 0.02))
  assert np.flatnonzero(kept).tolist() == [1, 3]


def test_no_points_and_one():
  assert thin(np.empty((0, 2)), 0.1).tolist() == []
  assert thin(np.array([[0.1, -0.3]]), 0, 1).tolist() == [True]


@pytest.mark.parametrize(
  ("additive", "relative", "message"),
  [
    (-0.1, 0, r"additive: -0.1 is not in \[0, inf\]"),
    (0, (0, 1.5), r"relative: \(0, 1.5\) is not in \[0, 1.0\]"),
    (float("nan"), 0, "additive: nan"),
  ],
)
def test_numbers_out_of_range_are_refused(additive, relative, message):
  with pytest.raises(ValueError, match=message):
    thin(np.ones((2, 2)), additive, relative)
