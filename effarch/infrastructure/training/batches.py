"""Which examples each step takes, and how many of their tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.data.dataset import PADDING


class Batches:
  """Batches of examples that are about as long as each other.

  An example goes to the shortest bucket that holds it. What is left of a
  bucket after its whole batches goes to the next longer one, so that there are
  no fewer batches than without buckets.

  Args:
    dataset: of tokens, if there are buckets.
    buckets: lengths; longer examples make a bucket as long as the data.

  Raises:
    UserError: there are buckets, and the inputs are no tokens.
  """

  def __init__(self, dataset: Dataset, buckets: Sequence[int] = ()):
    self._size = len(dataset)
    # No length: all of the tokens there are.
    self._lengths: list[int | None] = [None]
    self._bucket = np.zeros(self._size, np.int64)
    if not buckets:
      return
    if not np.issubdtype(dataset.inputs.dtype, np.signedinteger):
      raise UserError(
        "config.training.buckets: the data is no sequence of tokens; leave "
        "them out, ()"
      )
    full = dataset.inputs.shape[-1]
    edges = sorted({min(length, full) for length in buckets} - {full})
    self._lengths = [*edges, None]
    self._bucket = np.searchsorted(edges, lengths(dataset.inputs))

  def epoch(
    self, batch_size: int, steps: int, rng: np.random.Generator
  ) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yields an epoch's batches in random order, those of one dispatch each.

    Args:
      batch_size: `B`.
      steps: of one dispatch, at most.
      rng: draws the order.

    Yields:
      How many tokens are taken, all if None, and the places `k B` of the
      examples of `k` steps. What fills no batch is left out.
    """
    groups = []
    order = rng.permutation(self._size)
    for length, places in self._cascade(order, batch_size):
      whole = len(places) // batch_size * batch_size
      rows = places[:whole].astype(np.int32).reshape(-1, batch_size)
      groups += [
        (length, rows[begin : begin + steps])
        for begin in range(0, len(rows), steps)
      ]
    if len(self._lengths) > 1:
      groups = [groups[place] for place in rng.permutation(len(groups))]
    yield from groups

  def all(
    self, batch_size: int
  ) -> list[tuple[int | None, np.ndarray, np.ndarray]]:
    """Returns batches of all examples: tokens taken, places, and weights.

    Weights are 1, but 0 for example 0 where it fills the last batch.
    """
    found = []
    groups = self._cascade(np.arange(self._size), batch_size)
    for length, places in groups:
      rest = -len(places) % batch_size
      weights = np.repeat([1.0, 0.0], [len(places), rest])
      places = np.pad(places, (0, rest))
      found += [
        (length, p.astype(np.int32), w.astype(np.float32))
        for p, w in zip(
          places.reshape(-1, batch_size),
          weights.reshape(-1, batch_size),
          strict=True,
        )
      ]
    return found

  def _cascade(self, order, batch_size):
    """Yields each bucket's examples; all but the last fill whole batches."""
    left = order[:0]
    for number, length in enumerate(self._lengths):
      places = np.concatenate([left, order[self._bucket[order] == number]])
      whole = len(places)
      if length is not None:
        whole = whole // batch_size * batch_size
      yield length, places[:whole]
      left = places[whole:]


def lengths(inputs: np.ndarray) -> np.ndarray:
  """Returns the tokens of each example without padding, of a pair the more."""
  real = inputs != PADDING
  real = real.reshape(len(inputs), -1, inputs.shape[-1]).any(1)
  return np.where(real.any(1), real.shape[1] - real[:, ::-1].argmax(1), 0)


def check_buckets(buckets: Sequence[int]) -> None:
  """Refuses what are no growing lengths.

  Raises:
    ValueError: they are not.
  """
  good = isinstance(buckets, tuple | list) and all(
    type(length) is int and length > 0 for length in buckets
  )
  if not good or any(a >= b for a, b in itertools.pairwise(buckets)):
    raise ValueError(f"buckets: {buckets!r} are no growing lengths, (256,512)")
