"""Frontiers of points that were measured several times, as seeds are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr


def dominates(one: np.ndarray, other: np.ndarray, alpha: float = 0.05) -> bool:
  """Whether `one` dominates `other`, false with probability `alpha` at most.

  Each objective must be credibly better, or equal and free of spread, and one
  be credibly better. A claim of several parts, each tested at level `alpha`,
  is itself of that level (Berger, "Multiparameter Hypothesis Testing and
  Acceptance Sampling", 1982). That `one` is merely not credibly worse would be
  no reason to drop `other`: with few seeds nothing is credibly worse, and
  points could dominate each other in a circle.

  An objective is credibly better by Welch's one-sided t-test ("The
  Generalization of 'Student's' Problem when Several Different Population
  Variances are Involved", 1947). Where neither side has a spread, as bytes
  have none, the means are compared. A single sample is taken to spread like
  the other side's; two single samples are compared as they are, so that of
  points without seeds this is dominance itself.

  Args:
    one: samples `S M`, larger is better.
    other: samples `T M`.
    alpha: the level, in (0, 0.5).

  Raises:
    ValueError: there is no sample, or `alpha` is out of range.
  """
  _check(alpha)
  return bool(_dominates(_moments(one), _moments(other), alpha))


def confident_frontier(
  samples: Sequence[np.ndarray], alpha: float = 0.05
) -> np.ndarray:
  """Returns which points no other dominates with confidence, bool `N`.

  All of the frontier of the means are among them.

  Args:
    samples: `S M` for each point, of as many seeds as it has.
    alpha: the level of each comparison, see `dominates`.

  Raises:
    ValueError: there is no sample, or `alpha` is out of range.
  """
  _check(alpha)
  points = [_moments(point) for point in samples]
  if not points:
    return np.ones(0, bool)
  everyone = _Moments(*(np.stack(part) for part in zip(*points, strict=True)))
  return ~np.any([_dominates(one, everyone, alpha) for one in points], axis=0)


class _Moments(NamedTuple):
  mean: np.ndarray
  variance: np.ndarray  # NaN of a single sample.
  n: np.ndarray


def _moments(samples: np.ndarray) -> _Moments:
  samples = np.asarray(samples, float)
  if samples.ndim != 2 or not len(samples):
    raise ValueError(f"samples: shape {samples.shape} is no S M, S at least 1")
  n = len(samples)
  # Rounding would give equal numbers a spread.
  equal = (samples == samples[0]).all(0)
  mean = np.where(equal, samples[0], samples.mean(0))
  squares = np.where(equal, 0.0, (samples - mean) ** 2).sum(0)
  variance = squares / (n - 1) if n > 1 else np.full(len(mean), np.nan)
  return _Moments(mean, variance, np.full(len(mean), n))


def _dominates(
  one: _Moments, other: _Moments, alpha: float
) -> np.ndarray | np.bool_:
  gap = one.mean - other.mean
  ours = np.where(one.n > 1, one.variance, other.variance)
  theirs = np.where(other.n > 1, other.variance, one.variance)
  error = ours / one.n + theirs / other.n
  exact = ~(error > 0)  # NaN as well, of two single samples.
  freedom = np.where(
    np.minimum(one.n, other.n) > 1,
    _freedom(ours / one.n, one.n, theirs / other.n, other.n),
    one.n + other.n - 2,
  )
  with np.errstate(divide="ignore", invalid="ignore"):
    wrong = stdtr(freedom, -gap / np.sqrt(error))
  better = np.where(exact, gap > 0, wrong < alpha)
  return (better | (exact & (gap == 0))).all(-1) & better.any(-1)


def _freedom(a, n, b, m) -> np.ndarray:
  """Returns the degrees of freedom of the sum `a + b` of squared errors."""
  with np.errstate(divide="ignore", invalid="ignore"):
    return (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))


def _check(alpha: float) -> None:
  if not 0 < alpha < 0.5:
    raise ValueError(f"alpha: {alpha} is not in (0, 0.5)")
