"""Random numbers that are the same on every machine and in every version.

NumPy froze what `RandomState` draws (NEP 19); its newer generators may change.
"""

from __future__ import annotations

import numpy as np

from effarch.infrastructure.data.dataset import check_split

_SPLITS = {"train": 0, "validation": 1, "test": 2}


def random_state(seed: int, split: str) -> np.random.RandomState:
  """Returns what draws one split's examples, unlike those of the others."""
  check_split(split)
  return np.random.RandomState([seed, _SPLITS[split]])


def check_sizes(**sizes: int) -> None:
  """Refuses how many examples can't be drawn.

  Raises:
    ValueError: one is not positive.
  """
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f"{name}: {size} is not positive")
