"""Copying: a string, a separator, and the string again.

Paper: Jelassi et al., "Repeat After Me: Transformers are Better than State
Space Models at Copying", arXiv:2402.01032.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from effarch.infrastructure.data.dataset import UNASKED, Dataset
from effarch.infrastructure.data.generated import Recited, check_positive

SEPARATOR = 1
_FIRST_SYMBOL = 2


@dataclasses.dataclass(frozen=True)
class Copying(Recited):
  """`x1 ... xn SEPARATOR x1 ... x(n-1)`, from the separator on asked for more.

  The label of the separator is `x1`, that of `x1` after it is `x2`, and so
  on; nothing is asked before. A model that answers all holds the whole string
  in what it keeps of the past. Tokens are padding, separator, the symbols.
  Where there are few different strings, the parts have some in common.

  Args:
    num_symbols: how many symbols the string is drawn from, each as likely.
    length: n, how many symbols are copied; an example has twice as many
      tokens.
    **sizes: those of `Generated`.
  """

  num_symbols: int = 26
  length: int = 32
  num_train: int = 20_000

  def __post_init__(self):
    super().__post_init__()
    check_positive(num_symbols=self.num_symbols, length=self.length)

  @property
  def input_shape(self) -> tuple[int]:
    """How many tokens an example has."""
    return (2 * self.length,)

  @property
  def class_names(self) -> tuple[str, ...]:
    """The tokens."""
    symbols = (f"symbol {number}" for number in range(self.num_symbols))
    return ("<padding>", "<separator>", *symbols)

  def load(self, split: str) -> Dataset:
    """Returns one part, drawn anew by the same numbers."""
    random = self.random(split)
    shape = (self.num_examples(split), self.length)
    strings = random.randint(_FIRST_SYMBOL, self.vocab_size, shape)
    separators = np.full((len(strings), 1), SEPARATOR)
    inputs = np.concatenate([strings, separators, strings[:, :-1]], axis=1)
    labels = np.concatenate([np.full(shape, UNASKED), strings], axis=1)
    dtype = self.token_type
    return Dataset(
      inputs.astype(dtype), labels.astype(np.int32), self.class_names
    )
