"""Associative recall: a key that comes again asks for its value.

Paper: Arora et al., "Zoology: Measuring and Improving Recall in Efficient
Language Models", arXiv:2312.04927.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from effarch.infrastructure.data.dataset import UNASKED, Dataset
from effarch.infrastructure.data.generated import Recited, check_positive

# What fills the places that are neither pair nor query; padding, token 0,
# would tell a model that the sequence has ended.
BLANK = 1
_FIRST_KEY = 2


@dataclasses.dataclass(frozen=True)
class AssociativeRecall(Recited):
  """Pairs `k1 v1 k2 v2 ...`, then every key once more, with blanks between.

  The label of a key that comes again is its value; nothing else is asked, and
  the value itself does not follow. Within an example keys differ, and so do
  values. Tokens are padding, blank, the keys, the values.

  After the pairs, keys come at every second place. The i-th of these places
  is drawn with a weight of i^(power - 1), no place twice, first for the first
  pair's key: the closer, the likelier, as for words that come again in text.

  All this is as in the paper's code, but that fills other places with random
  tokens or with zeros; the blank stands for the zeros.

  Args:
    length: how many tokens an example has; at least four for each pair.
    num_pairs: how many keys are asked for.
    num_keys: how many keys there are to draw from.
    num_values: how many values there are to draw from.
    power: in (0, 1]; at 1 all places are equally likely.
    random_filler: puts random keys and values where blanks would be; nothing
      is asked of them.
    **sizes: those of `Generated`.
  """

  length: int = 64
  num_pairs: int = 8
  num_keys: int = 64
  num_values: int = 64
  power: float = 0.01
  random_filler: bool = False
  num_train: int = 20_000

  def __post_init__(self):
    super().__post_init__()
    check_positive(num_pairs=self.num_pairs)
    for name, least in (
      ("length", 4 * self.num_pairs),
      ("num_keys", self.num_pairs),
      ("num_values", self.num_pairs),
    ):
      value = getattr(self, name)
      if value < least:
        raise ValueError(
          f"{name}: {value} is not at least {least}, which "
          f"{self.num_pairs} pairs need"
        )
    if not 0 < self.power <= 1:
      raise ValueError(f"power: {self.power} is not in (0, 1]")

  @property
  def input_shape(self) -> tuple[int]:
    """How many tokens an example has."""
    return (self.length,)

  @property
  def class_names(self) -> tuple[str, ...]:
    """The tokens."""
    keys = (f"key {number}" for number in range(self.num_keys))
    values = (f"value {number}" for number in range(self.num_values))
    return ("<padding>", "<blank>", *keys, *values)

  def load(self, split: str) -> Dataset:
    """Returns one part, drawn anew by the same numbers."""
    random = self.random(split)
    rows = self.num_examples(split)
    keys = _distinct(random, rows, self.num_keys, self.num_pairs)
    values = _distinct(random, rows, self.num_values, self.num_pairs)
    keys += _FIRST_KEY
    values += _FIRST_KEY + self.num_keys
    end = 2 * self.num_pairs
    queries = end + 2 * self._gaps(random, rows)
    dtype = self.token_type
    inputs = np.full((rows, self.length), BLANK, dtype)
    if self.random_filler:
      inputs[:] = random.randint(_FIRST_KEY, self.vocab_size, inputs.shape)
    inputs[:, 0:end:2] = keys
    inputs[:, 1:end:2] = values
    np.put_along_axis(inputs, queries, keys.astype(dtype), axis=1)
    labels = np.full((rows, self.length), UNASKED, np.int32)
    np.put_along_axis(labels, queries, values.astype(np.int32), axis=1)
    return Dataset(inputs, labels, self.class_names)

  def _gaps(self, random: np.random.RandomState, rows: int) -> np.ndarray:
    """Returns how many pairs of places lie before each query, `rows P`.

    The first `P` arrivals of a race, in which place i comes after an
    exponential time with a mean of i^(1 - power), are as if drawn one after
    the other without putting back.
    """
    places = np.arange(1, (self.length - 2 * self.num_pairs) // 2 + 1)
    times = -np.log1p(-random.random_sample((rows, len(places))))
    arrivals = times * places ** (1.0 - self.power)
    return arrivals.argsort(axis=1)[:, : self.num_pairs]


def _distinct(
  random: np.random.RandomState, rows: int, options: int, count: int
) -> np.ndarray:
  """Returns `count` different numbers below `options` for each row.

  Floyd's algorithm, since shuffling all options of all rows takes gigabytes
  at the paper's 8,192 tokens.
  """
  chosen = np.full((rows, count), -1)
  for place, top in enumerate(range(options - count, options)):
    drawn = random.randint(top + 1, size=rows)
    taken = (chosen == drawn[:, None]).any(axis=1)
    chosen[:, place] = np.where(taken, top, drawn)
  # Floyd's numbers are as likely as any, but not in any order.
  order = random.random_sample((rows, count)).argsort(axis=1)
  return np.take_along_axis(chosen, order, axis=1)
