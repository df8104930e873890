"""Ranges of activations, from what calibration shows of them.

A wide range wastes levels on rare numbers, a narrow one clips them; each
observer strikes that balance by a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BINS = 2048
# Narrower ranges that are tried, as parts of the whole.
_PARTS = np.linspace(1 / 64, 1, 64)


class MinMax:
  """From the smallest to the largest number there was."""

  def __init__(self):
    self.low = self.high = 0.0

  def update(self, x: np.ndarray) -> None:
    """Sees some numbers."""
    self.low = min(self.low, float(np.min(x, initial=0)))
    self.high = max(self.high, float(np.max(x, initial=0)))

  def range(self, levels: int) -> tuple[float, float]:
    """Returns the range for so many levels."""
    del levels
    return self.low, self.high


class MovingAverage(MinMax):
  """The mean of the batches' ends, of which later ones count more.

  Args:
    momentum: how much of the mean so far is kept.
  """

  def __init__(self, momentum: float = 0.9):
    super().__init__()
    self._momentum, self._seen = momentum, False

  def update(self, x: np.ndarray) -> None:
    """Sees some numbers."""
    ends = float(np.min(x, initial=0)), float(np.max(x, initial=0))
    kept = self._momentum if self._seen else 0.0
    self.low = kept * self.low + (1 - kept) * ends[0]
    self.high = kept * self.high + (1 - kept) * ends[1]
    self._seen = True


class Histogram(MinMax):
  """Counts numbers in bins between the smallest and the largest."""

  def __init__(self):
    super().__init__()
    self.counts = np.zeros(_BINS)

  def update(self, x: np.ndarray) -> None:
    """Sees some numbers; bins that become too few are spread anew."""
    old, low, high = self.centers, self.low, self.high
    super().update(x)
    ends = self.low, self.high
    if ends[0] == ends[1]:
      return
    if ends != (low, high):
      self.counts, _ = np.histogram(old, _BINS, ends, weights=self.counts)
    self.counts = self.counts + np.histogram(x, _BINS, ends)[0]

  @property
  def centers(self) -> np.ndarray:
    """The middle of each bin."""
    width = (self.high - self.low) / _BINS
    return self.low + width * (np.arange(_BINS) + 0.5)

  def _best(self, loss: Callable[[float, float], float]):
    """Returns the part of the range that a loss likes best."""
    parts = [(self.low * part, self.high * part) for part in _PARTS]
    return min(reversed(parts), key=lambda ends: loss(*ends))


class Percentile(Histogram):
  """All but a few numbers at each end (arXiv:2004.09602).

  Args:
    percent: how many of a hundred numbers are within.
  """

  def __init__(self, percent: float = 99.99):
    super().__init__()
    if not 50 < percent <= 100:
      raise ValueError(f"percent: {percent} is not in (50, 100]")
    self._percent = percent

  def range(self, levels: int) -> tuple[float, float]:
    """Returns the range for so many levels."""
    total = self.counts.sum()
    if not total or self._percent == 100:
      return self.low, self.high
    beyond = (1 - self._percent / 100) * total
    below = np.cumsum(self.counts)
    width = (self.high - self.low) / _BINS
    first = int(np.searchsorted(below, beyond, side="right"))
    last = int(np.searchsorted(below, total - beyond, side="left"))
    low = self.low + width * first
    high = self.low + width * (last + 1)
    return min(low, 0.0), max(high, 0.0)


class MSE(Histogram):
  """With the least mean squared error of what is rounded."""

  def range(self, levels: int) -> tuple[float, float]:
    """Returns the range for so many levels."""

    def loss(low, high):
      scale = max((high - low) / (levels - 1), 1e-30)
      rounded = np.round(np.clip(self.centers, low, high) / scale) * scale
      return float(self.counts @ np.square(self.centers - rounded))

    return self._best(loss)


class Entropy(Histogram):
  """With the least Kullback-Leibler divergence of what is rounded.

  What is clipped counts as at the ends (S. Migacz, 8-bit inference with
  TensorRT, 2017).
  """

  def range(self, levels: int) -> tuple[float, float]:
    """Returns the range for so many levels."""
    centers, counts = self.centers, self.counts

    def loss(low, high):
      within = (centers >= low) & (centers <= high)
      if not within.any():
        return np.inf
      true = counts[within].copy()
      if not true.sum():
        return np.inf
      true[0] += counts[centers < low].sum()
      true[-1] += counts[centers > high].sum()
      scale = max((high - low) / (levels - 1), 1e-30)
      level = np.round(centers[within] / scale).astype(np.int64)
      level -= level.min()
      kept = counts[within]
      # A level's numbers are spread evenly over its bins that are not empty.
      filled = np.bincount(level, kept > 0)
      sums = np.bincount(level, kept)
      spread = np.where(kept > 0, (sums / np.maximum(filled, 1))[level], 0)
      if not spread.sum():
        return np.inf
      p, q = true / true.sum(), spread / spread.sum()
      some = p > 0
      if (q[some] == 0).any():
        q = (q + 1e-9) / (q + 1e-9).sum()
      return float(np.sum(p[some] * np.log(p[some] / q[some])))

    return self._best(loss)


OBSERVERS: dict[str, Callable[[], MinMax]] = {
  "min_max": MinMax,
  "moving_average": MovingAverage,
  "percentile": Percentile,
  "mse": MSE,
  "entropy": Entropy,
}
