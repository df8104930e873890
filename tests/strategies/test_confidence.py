"""Dominance with confidence: against SciPy's tests, and plain dominance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from effarch.strategies.confidence import confident_frontier, dominates
from effarch.strategies.frontier import non_dominated


@st.composite
def points(draw, seeds=(1, 5), size=6):
  """Points of some samples each; the last objective never has a spread."""
  width = draw(st.integers(1, 3))
  found = []
  for _ in range(draw(st.integers(1, size))):
    row = st.lists(st.integers(0, 9), min_size=width, max_size=width)
    n = draw(st.integers(*seeds))
    samples = np.array(draw(st.lists(row, min_size=n, max_size=n)), float)
    samples[:, -1] = samples[0, -1]
    found.append(samples)
  return found


def spread(samples):
  return samples.std(ddof=1)


def better(one, other, alpha):
  """One objective, by SciPy where there is a spread."""
  if len(one) > 1 and len(other) > 1 and (one.std() or other.std()):
    moments = [f(x) for x in (one, other) for f in (np.mean, spread, len)]
    test = stats.ttest_ind_from_stats(
      *moments, equal_var=False, alternative="greater"
    )
    return test.pvalue < alpha
  several = one if len(one) > 1 else other
  if several.std():
    # Student's interval for one more sample of the same kind.
    n, gap = len(several), one.mean() - other.mean()
    t = gap / (spread(several) * np.sqrt(1 + 1 / n))
    return stats.t.sf(t, n - 1) < alpha
  return one.mean() > other.mean()


def expected(one, other, alpha):
  columns = list(zip(one.T, other.T, strict=True))
  noisy = [a.std() > 0 or b.std() > 0 for a, b in columns]
  wins = [better(a, b, alpha) for a, b in columns]
  ties = [
    not s and a[0] == b[0] for s, (a, b) in zip(noisy, columns, strict=True)
  ]
  held = all(w or t for w, t in zip(wins, ties, strict=True))
  return held and any(wins)


@given(points(size=2), st.sampled_from([0.01, 0.05, 0.25]))
def test_dominance_is_a_test_of_every_objective(found, alpha):
  one, other = found[0], found[-1]
  assert dominates(one, other, alpha) == expected(one, other, alpha)


@given(points())
def test_frontier_is_what_no_point_dominates_with_confidence(found):
  kept = [not any(expected(a, b, 0.05) for a in found) for b in found]
  assert confident_frontier(found).tolist() == kept


@given(points(seeds=(1, 1)))
def test_of_single_seeds_it_is_the_plain_frontier(found):
  plain = non_dominated(np.concatenate(found))
  assert confident_frontier(found).tolist() == plain.tolist()


@given(points())
def test_frontier_of_the_means_is_part_of_it(found):
  means = np.stack([samples.mean(0) for samples in found])
  assert (confident_frontier(found) | ~non_dominated(means)).all()


@given(points(), st.sampled_from([0.01, 0.05]))
def test_more_confidence_keeps_more(found, alpha):
  strict = confident_frontier(found, alpha)
  assert (strict | ~confident_frontier(found, 0.25)).all()


def test_noise_decides_nothing_and_a_clear_gap_does():
  noisy = [np.array([[0.74, -27], [0.76, -27]]) - shift for shift in (0, 0.005)]
  assert confident_frontier(noisy).tolist() == [True, True]
  clear = [noisy[0], noisy[0] - [0.2, 0]]
  assert confident_frontier(clear).tolist() == [True, False]


def test_single_sample_spreads_like_the_other_side():
  """Student's t of one degree of freedom: Cauchy's quantile is a tangent."""
  pair = np.array([[-1.0], [1.0]])
  bound = np.tan(0.45 * np.pi) * 3**0.5  # 2 is the variance, 1 + 1 / 2 times.
  for gap, clear in ((0.999 * bound, False), (1.001 * bound, True)):
    assert dominates(np.array([[gap]]), pair) == clear
    assert dominates(pair, np.array([[-gap]])) == clear


def test_equal_samples_have_no_spread_that_rounding_made():
  same = np.full((3, 1), 0.1)
  assert same.std() > 0
  assert not dominates(same, same)
  assert dominates(np.full((3, 1), 0.1 + 1e-12), same)


def test_it_errs_as_often_as_it_says():
  """Equal points but for bytes: one side wins its t-test 1 time in 10."""
  generator = np.random.default_rng(0)
  claims = 0
  for _ in range(1000):
    one, other = generator.normal(size=(2, 4, 1))
    claims += dominates(one, other, 0.1)
  assert 70 < claims < 130


def test_no_points_and_what_is_refused():
  assert confident_frontier([]).tolist() == []
  with pytest.raises(ValueError, match=r"alpha: 0.5 is not in \(0, 0.5\)"):
    confident_frontier([np.ones((1, 1))], 0.5)
  with pytest.raises(ValueError, match=r"samples: shape \(0, 2\)"):
    confident_frontier([np.ones((0, 2))])
