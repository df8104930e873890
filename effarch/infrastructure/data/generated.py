"""Sources that draw their examples, the same ones on every machine.

NumPy froze what `RandomState` draws (NEP 19); its newer generators may change.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from effarch.infrastructure.data.dataset import Source, check_split

_SPLITS = {"train": 0, "validation": 1, "test": 2}


@dataclasses.dataclass(frozen=True)
class Generated(Source):
  """Examples that are drawn.

  Args:
    num_train: how many examples are drawn to train on.
    num_validation: how many to decide by.
    num_test: how many to report on.
    seed: the same seed gives the same examples.
  """

  num_train: int = 10_000
  num_validation: int = 1_000
  num_test: int = 1_000
  seed: int = 0

  def __post_init__(self):
    if not 0 <= self.seed < 2**32:
      raise ValueError(f"seed: {self.seed} is not in [0, 2**32)")
    check_positive(
      num_train=self.num_train,
      num_validation=self.num_validation,
      num_test=self.num_test,
    )

  def num_examples(self, split: str) -> int:
    """Returns how many examples a split has."""
    check_split(split)
    return getattr(self, f"num_{split}")

  def random(self, split: str) -> np.random.RandomState:
    """Returns what draws one split's examples, unlike those of the others."""
    check_split(split)
    return np.random.RandomState([self.seed, _SPLITS[split]])


class Recited(Generated):
  """Sequences whose labels are tokens too, as a language model's."""

  @property
  def label_shape(self) -> tuple[int, ...]:
    """A label for each token."""
    return self.input_shape

  @property
  def vocab_size(self) -> int:
    """How many tokens there are."""
    return len(self.class_names)

  @property
  def token_type(self) -> type[np.signedinteger]:
    """What tokens are kept as."""
    return np.int16 if self.vocab_size <= 2**15 else np.int32


def check_positive(**sizes: int) -> None:
  """Refuses what there must be at least one of.

  Raises:
    ValueError: one is not positive.
  """
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f"{name}: {size} is not positive")
