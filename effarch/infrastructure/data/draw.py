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


def check_sizes(seed: int, **sizes: int) -> None:
  """Refuses a seed that there is not, and numbers that are not positive.

  Raises:
    ValueError: `seed` or one of `sizes` is out of its range.
  """
  if not 0 <= seed < 2**32:
    raise ValueError(f"seed: {seed} is not in [0, 2**32)")
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f"{name}: {size} is not positive")


def token_type(vocab_size: int) -> type[np.signedinteger]:
  """Returns the type that tokens of so many kinds are kept as."""
  return np.int16 if vocab_size <= 2**15 else np.int32
