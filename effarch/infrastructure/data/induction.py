"""Induction heads: what followed the last time?

Papers: Fu et al., "Hungry Hungry Hippos: Towards Language Modeling with State
Space Models", arXiv:2212.14052; Gu and Dao, "Mamba: Linear-Time Sequence
Modeling with Selective State Spaces", arXiv:2312.00752.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from effarch.infrastructure.data.dataset import UNASKED, Dataset
from effarch.infrastructure.data.generated import Recited, check_positive

TRIGGER = 1
_FIRST_SYMBOL = 2


@dataclasses.dataclass(frozen=True)
class InductionHeads(Recited):
  """Random symbols, a trigger among them, and the trigger again at the end.

  The last token's label is the symbol that followed the first trigger;
  nothing else is asked. The first trigger is as likely at any place that
  leaves room for a symbol after it. Tokens are padding, trigger, the symbols.

  Args:
    num_symbols: how many symbols there are, each as likely. With the trigger
      they are 16, as in Mamba's paper; H3's has 20.
    length: how many tokens an example has; 30 in H3's paper, 256 in Mamba's.
    **sizes: those of `Generated`.
  """

  num_symbols: int = 15
  length: int = 64
  num_train: int = 20_000

  def __post_init__(self):
    super().__post_init__()
    check_positive(num_symbols=self.num_symbols)
    if self.length < 3:
      raise ValueError(f"length: {self.length} is not at least 3")

  @property
  def input_shape(self) -> tuple[int]:
    """How many tokens an example has."""
    return (self.length,)

  @property
  def class_names(self) -> tuple[str, ...]:
    """The tokens."""
    symbols = (f"symbol {number}" for number in range(self.num_symbols))
    return ("<padding>", "<trigger>", *symbols)

  def load(self, split: str) -> Dataset:
    """Returns one part, drawn anew by the same numbers."""
    random = self.random(split)
    shape = (self.num_examples(split), self.length)
    inputs = random.randint(_FIRST_SYMBOL, self.vocab_size, shape)
    rows = np.arange(len(inputs))
    places = random.randint(self.length - 2, size=len(inputs))
    inputs[rows, places] = TRIGGER
    inputs[:, -1] = TRIGGER
    labels = np.full(shape, UNASKED, np.int32)
    labels[:, -1] = inputs[rows, places + 1]
    dtype = self.token_type
    return Dataset(inputs.astype(dtype), labels, self.class_names)
