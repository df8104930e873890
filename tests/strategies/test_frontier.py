"""Frontiers against slow, obvious twins; volumes against counted cells."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.strategies import hypervolume, non_dominated
from effarch.strategies.frontier import objectives, relative_hypervolume


@st.composite
def clouds(draw, low=0, high=3, dimensions=(1, 4), size=12):
  """Integer points in so small a range that ties are the rule."""
  width = draw(st.integers(*dimensions))
  row = st.lists(st.integers(low, high), min_size=width, max_size=width)
  return np.array(draw(st.lists(row, min_size=1, max_size=size)), float)


def dominates(one, other):
  pairs = list(zip(one, other, strict=True))
  return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@given(clouds())
def test_frontier_is_what_no_point_dominates(points):
  expected = [
    not any(dominates(other, point) for other in points) for point in points
  ]
  assert non_dominated(points).tolist() == expected


@given(clouds())
def test_equal_points_stay_or_go_together(points):
  twice = non_dominated(np.concatenate([points, points]))
  assert twice.tolist() == 2 * non_dominated(points).tolist()
  assert twice.any()


@given(clouds(), st.randoms(use_true_random=False))
def test_order_of_points_and_of_objectives_does_not_matter(points, random):
  rows, columns = (random.sample(range(n), n) for n in points.shape)
  shuffled = points[rows][:, columns]
  assert (
    non_dominated(shuffled).tolist() == non_dominated(points)[rows].tolist()
  )
  reference = np.zeros(points.shape[1])
  assert hypervolume(shuffled, reference) == hypervolume(points, reference)


def test_a_hand_made_frontier():
  points = np.array([[1, 3], [2, 2], [2, 2], [3, 1], [2, 1], [1, 2], [3, 0]])
  assert np.flatnonzero(non_dominated(points)).tolist() == [0, 1, 2, 3]
  assert non_dominated(np.empty((0, 2))).tolist() == []


def test_a_long_frontier_in_little_memory():
  """Squared, these would be 800 MB."""
  place = np.arange(20_000.0) % 100
  points = np.stack([place, 99 - place, np.zeros_like(place)], 1)
  points[100:, 2] = -1
  assert np.flatnonzero(non_dominated(points)).tolist() == list(range(100))


def test_one_box():
  points, reference = np.array([[3.0, 5.0, 2.5]]), np.array([1.0, 2.0, 2.0])
  assert hypervolume(points, reference) == 2 * 3 * 0.5
  assert hypervolume(points[:, :1], reference[:1]) == 2


def test_two_boxes_share_what_overlaps():
  points = np.array([[4.0, 1.0], [2.0, 3.0]])
  assert hypervolume(points, np.zeros(2)) == 4 + 6 - 2
  cubes = np.array([[4.0, 1.0, 2.0], [2.0, 3.0, 1.0]])
  assert hypervolume(cubes, np.zeros(3)) == 8 + 6 - 2


@given(clouds(low=-2, high=4, dimensions=(1, 3)), st.integers(-1, 1))
def test_volume_counts_unit_cells(points, corner):
  reference = np.full(points.shape[1], corner)
  cells = 0
  for cell in itertools.product(range(corner, 4), repeat=points.shape[1]):
    # A cell from `cell` to one further lies in some point's box or in none.
    cells += any((np.array(cell) + 1 <= point).all() for point in points)
  assert hypervolume(points, reference) == cells


@given(clouds(high=6, dimensions=(2, 4), size=5))
def test_volume_by_inclusion_and_exclusion(points):
  expected = 0.0
  for size in range(1, len(points) + 1):
    for chosen in itertools.combinations(points, size):
      expected -= (-1) ** size * np.min(chosen, axis=0).prod()
  assert hypervolume(points, np.zeros(points.shape[1])) == expected


@st.composite
def fractions(draw):
  """Points and a corner of floats that no grid holds, 2 to 4 objectives."""
  width = draw(st.integers(2, 4))
  number = st.floats(-3, 3, allow_subnormal=False)
  row = st.lists(number, min_size=width, max_size=width)
  points = draw(st.lists(row, min_size=1, max_size=6))
  return np.array(points), np.array(draw(row))


@given(fractions())
def test_volume_against_rational_numbers(case):
  """Cells between all coordinates, each added without any rounding."""
  points, corner = case
  exact = Fraction(0)
  edges = [
    sorted({low, *(x for x in column if x > low)})
    for low, column in zip(corner, points.T, strict=True)
  ]
  for cell in itertools.product(*(itertools.pairwise(e) for e in edges)):
    top = np.array([high for _, high in cell])
    if (points >= top).all(1).any():
      exact += math.prod(Fraction(b) - Fraction(a) for a, b in cell)
  found = hypervolume(points, corner)
  assert found == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("dimensions", "volume"), [(2, 0.5), (3, 1 / 6)])
def test_volume_below_a_fine_staircase(dimensions, volume):
  """Steps under the plane on which coordinates sum to one."""
  steps = 40
  grid = np.indices([steps + 1] * dimensions).reshape(dimensions, -1).T
  points = grid[grid.sum(1) == steps] / steps
  # What the steps leave out is of the order of one step.
  assert volume - 2 / steps < hypervolume(points, np.zeros(dimensions)) < volume


@given(clouds())
def test_dominated_points_add_no_volume(points):
  reference = np.full(points.shape[1], -1.0)
  front = points[non_dominated(points)]
  assert hypervolume(front, reference) == hypervolume(points, reference)


@given(clouds(dimensions=(3, 3)), st.tuples(*[st.integers(0, 4)] * 3))
def test_volume_grows_by_points_that_were_not_dominated(points, extra):
  reference = np.full(3, -1.0)
  more = np.vstack([points, extra])
  grown = hypervolume(more, reference) - hypervolume(points, reference)
  covered = any((point >= extra).all() for point in points)
  assert grown == 0 if covered else grown > 0


def test_points_at_or_below_the_reference_add_nothing():
  reference = np.array([1.0, 1.0])
  points = np.array([[1.0, 9.0], [0.0, 9.0], [-3.0, -3.0]])
  assert hypervolume(points, reference) == 0
  # Two negative sides make no positive box.
  assert hypervolume(np.vstack([points, [2, 3]]), reference) == 2
  assert hypervolume(np.empty((0, 2)), reference) == 0


def test_points_of_another_dimension_are_refused():
  with pytest.raises(ValueError):
    hypervolume(np.ones((2, 3)), np.zeros(2))


@pytest.mark.parametrize(
  ("points", "share"),
  [
    ([[0, 0], [1, 1]], 1.0),
    ([[0, 1], [1, 0]], 0.0),  # The two ends alone span the box.
    ([[0, 10], [1, 5], [2, 0]], 0.25),
    ([[7, 7, 7]], 1.0),
    ([[3, 3], [3, 3]], 1.0),
    ([[5, 0, 1], [5, 2, 1], [5, 1, 1]], 1.0),  # One objective is left.
    ([[-4], [4]], 1.0),
  ],
)
def test_relative_volume(points, share):
  assert relative_hypervolume(np.array(points)) == share


@given(clouds(), st.floats(0.5, 2), st.integers(-5, 5))
def test_relative_volume_knows_no_unit(points, scale, shift):
  share = relative_hypervolume(points)
  assert 0 <= share <= 1
  moved = relative_hypervolume(points * scale + shift)
  np.testing.assert_allclose(moved, share, atol=1e-9)


def test_objectives_turn_footprints_around():
  rows = [
    {"accuracy": 0.5, "size": 10, "name": "a"},
    {"accuracy": 1, "size": 2**70, "name": "b"},
  ]
  np.testing.assert_array_equal(
    objectives(rows, ["accuracy"], ["size"]), [[0.5, -10], [1, -(2.0**70)]]
  )
  assert objectives([], ["accuracy"], ["size"]).shape == (0, 2)


@pytest.mark.parametrize(
  "value", [None, "0.5", [1], float("nan"), float("inf"), -float("inf")]
)
@pytest.mark.parametrize("column", ["accuracy", "size"])
def test_objectives_refuse_what_is_no_finite_number(column, value):
  rows = [{"accuracy": 0.5, "size": 1}, {"accuracy": 0.5, "size": 1}]
  rows[1][column] = value
  with pytest.raises(ValueError, match=f"row 1: {column} is .*no finite"):
    objectives(rows, ["accuracy"], ["size"])


def test_objectives_refuse_a_missing_column():
  rows = [{"accuracy": 0.5}]
  with pytest.raises(ValueError, match="row 0: latency_us is None"):
    objectives(rows, ["accuracy"], ["latency_us"])
