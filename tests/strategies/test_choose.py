"""The best within limits and the knee, against search and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.errors import UserError
from effarch.strategies.choose import best_under, knee
from effarch.strategies.frontier import non_dominated
from effarch.strategies.limits import Limit

NUMBER = st.integers(1, 5)


def row(run, accuracy, size_bytes, latency_us=1.0):
  return {
    "run": run,
    "kind": "int8",
    "config": {},
    "accuracy": accuracy,
    "size_bytes": size_bytes,
    "latency_us": latency_us,
  }


@given(
  st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=8),
  *(NUMBER, NUMBER),
)
def test_best_is_the_best_of_what_fits(numbers, size, latency):
  rows = [row(str(n), *values) for n, values in enumerate(numbers)]
  limits = [Limit("size_bytes", size), Limit("latency_us", latency)]
  fit = [
    r for r in rows if r["size_bytes"] <= size and r["latency_us"] <= latency
  ]
  if fit:
    best = best_under(rows, "accuracy", limits)
    assert best in fit
    assert best["accuracy"] == max(r["accuracy"] for r in fit)
    points = np.array([(a, -s, -t) for a, s, t in numbers])
    assert non_dominated(points)[int(best["run"])]
  else:
    with pytest.raises(UserError, match="no artifact has size_bytes <= "):
      best_under(rows, "accuracy", limits)


def test_none_fits_and_the_nearest_is_named():
  rows = [row("tiny", 0.5, 40_000, 400.0), row("near", 0.7, 60_000, 100.0)]
  limits = [Limit("size_bytes", 50_000), Limit("latency_us", 150)]
  with pytest.raises(UserError) as caught:
    best_under(rows, "accuracy", limits)
  assert str(caught.value) == (
    "no artifact has size_bytes <= 50,000 and latency_us <= 150; nearest is "
    "'near int8' with size_bytes 60,000 and latency_us 100.0"
  )


def test_without_limits_the_best_is_the_best():
  rows = [row("a", 0.5, 1), row("b", 0.75, 9), row("c", 0.75, 9)]
  assert best_under(rows, "accuracy", [])["run"] == "b"


def test_columns_that_are_not_there_are_refused():
  rows = [row("a", 0.5, 1), row("b", 0.75, 9)]
  with pytest.raises(UserError, match="did you mean 'size_bytes'"):
    best_under(rows, "accuracy", [Limit("size_byte", 5)])
  with pytest.raises(UserError, match="column 'run': unknown"):
    best_under(rows, "accuracy", [Limit("run", 5)])
  del rows[0]["latency_us"]
  with pytest.raises(UserError, match="a int8: has no latency_us; measure"):
    best_under(rows, "accuracy", [Limit("latency_us", 5)])


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=9))
def test_knee_is_farthest_from_the_line_between_the_ends(numbers):
  points = np.array(numbers, float)
  front = np.flatnonzero(non_dominated(points))
  (x0, y0), (x1, y1) = (
    points[front[f(points[front, 0])]] for f in (np.argmin, np.argmax)
  )
  found = knee(points)
  # Scaled, twice the area over the line is the distance, but for a factor.
  areas = {
    place: (x1 - x0) * (points[place, 1] - y0)
    - (y1 - y0) * (points[place, 0] - x0)
    for place in front
  }
  most = max(areas.values())
  if most > 0:
    assert found == next(place for place in front if areas[place] == most)
  else:
    assert found is None


@given(st.lists(st.tuples(*[NUMBER] * 3), min_size=3, max_size=9))
def test_units_do_not_matter(numbers):
  points = np.array(numbers, float)
  assert knee(points * [1, 4, 0.5] + [0, 3, -7]) == knee(points)


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=3, max_size=9))
def test_footprint_that_is_told_twice_counts_once(numbers):
  points = np.array(numbers, float)
  assert knee(points[:, [0, 1, 1]]) == knee(points)
  assert knee(points[:, [0, 1, 1, 0]]) == knee(points)


def test_knee_of_three_objectives():
  corners = np.eye(3)
  assert knee(corners) is None
  inner = [[0.25, 0.25, 0.25], [0.5, 0.5, 0.25], [0.5, 0.375, 0.5]]
  assert knee(np.vstack([corners, inner])) == 5
  # Two ends that are nearly one, and are not the knee for it.
  ends = [[1, 0, 0], [0, 1, 0.9], [0.05, 0.9, 1]]
  middle = [[0.5, 0.4, 0.4], [0.7, 0.6, 0.6]]
  assert knee(np.array(ends + middle)) == 4


def test_of_two_that_are_best_the_better_in_the_rest_is_an_end():
  points = [[0, 2, 4], [3, 1, 4], [3, 4, 0], [2, 4, 3], [2, 2, 2]]
  assert knee(np.array(points)) is None  # With [3, 4, 0] it would be 3.


def test_knee_is_an_end_where_the_plane_would_reward_what_is_worse():
  """Quickest, nearly smallest, and accurate: a plane through it tips over."""
  points = np.array([[1, 0, 0], [0, 1, 0.95], [0.6, 0.9, 1], [0.7, 0.5, 0.2]])
  assert min(np.linalg.solve(points[:3], np.ones(3))) < 0
  assert knee(points) == 2


def test_no_knee_on_a_straight_or_hollow_frontier_nor_of_two_points():
  steps = np.linspace(0, 1, 11)
  assert knee(np.stack([steps, 1 - steps], 1)) is None
  assert knee(np.array([[0, 1], [0.2, 0.2], [1, 0]])) is None
  assert knee(np.array([[0, 1], [1, 0]])) is None
  assert knee(np.empty((0, 2))) is None
  assert knee(np.ones((5, 2))) is None


def test_knee_by_ratios():
  # Ten times the bytes each: the second gain is the last that is worth it.
  accuracy = [0.5, 0.7, 0.9, 0.92]
  size = [-1e3, -1e4, -1e5, -1e6]
  points = np.stack([accuracy, size], 1)
  assert knee(points, log=[1]) == 2
  assert knee(points) == 2 or knee(points) == 1
  logs = np.stack([accuracy, -np.log10(-points[:, 1])], 1)
  assert knee(points, log=[1]) == knee(logs)
  with pytest.raises(ValueError, match="log: objective 1 is not all"):
    knee(np.array([[1.0, 0.0], [2.0, -1.0]]), log=[1])
