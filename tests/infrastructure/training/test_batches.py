"""Every example comes once an epoch, among those about as long as it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.errors import UserError
from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import Loop
from effarch.infrastructure.training.batches import Batches, lengths

FULL = 12


def dataset(sizes):
  """Tokens of these lengths; each example's first token tells its place."""
  inputs = np.zeros((len(sizes), FULL), np.int16)
  for place, size in enumerate(sizes):
    inputs[place, :size] = place + 1
  return Dataset(inputs, np.zeros(len(sizes), np.int32), ("a",))


def epoch(data, buckets, batch_size, steps=2, seed=0):
  rng = np.random.default_rng(seed)
  return [*Batches(data, buckets).epoch(batch_size, steps, rng)]


sizes_and_buckets = (
  st.lists(st.integers(1, FULL), min_size=5, max_size=60),
  st.lists(st.integers(1, 2 * FULL), max_size=3, unique=True).map(sorted),
)


@given(*sizes_and_buckets)
def test_an_epoch_has_as_many_batches_whatever_the_buckets(sizes, buckets):
  found = epoch(dataset(sizes), buckets, batch_size=4)
  places = np.concatenate([rows.ravel() for _, rows in found])
  assert len(places) == len(sizes) // 4 * 4
  assert len(np.unique(places)) == len(places)
  for length, rows in found:
    assert rows.shape[0] in (1, 2)
    assert rows.shape[1] == 4
    assert length in (*buckets, None)
    assert length is None or max(sizes[p] for p in rows.ravel()) <= length


@given(*sizes_and_buckets)
def test_all_examples_are_judged_once(sizes, buckets):
  counts = np.zeros(len(sizes))
  for length, places, weights in Batches(dataset(sizes), buckets).all(4):
    assert places.shape == weights.shape == (4,)
    np.add.at(counts, places, weights)
    longest = (np.take(sizes, places) * weights).max()
    assert length is None or longest <= length
  np.testing.assert_array_equal(counts, 1)


def test_an_example_goes_to_the_shortest_bucket_that_holds_it():
  sizes = [3] * 4 + [4] * 4 + [5] * 4 + [8] * 4 + [9] * 4
  found = epoch(dataset(sizes), (4, 8), batch_size=4, steps=1)
  by_length = {}
  for length, rows in found:
    by_length.setdefault(length, []).extend(rows.ravel())
  assert {k: sorted(v) for k, v in by_length.items()} == {
    4: [*range(8)],
    8: [*range(8, 16)],
    None: [*range(16, 20)],
  }


def test_what_fills_no_batch_goes_up():
  found = epoch(dataset([3] * 5 + [7] * 3), (4,), batch_size=4, steps=1)
  assert sorted(length or 0 for length, _ in found) == [0, 4]


def test_the_order_is_that_of_one_permutation_without_buckets():
  found = epoch(dataset([5] * 11), (), batch_size=2, steps=2, seed=(3, 1))
  expected = np.random.default_rng((3, 1)).permutation(11)[:10].reshape(5, 2)
  assert [length for length, _ in found] == [None] * 3
  np.testing.assert_array_equal(
    np.concatenate([rows for _, rows in found]), expected
  )


def test_long_and_short_batches_come_mixed():
  data = dataset([3] * 40 + [12] * 40)
  found = [length for length, _ in epoch(data, (4,), 4, 1)]
  assert found != sorted(found, key=lambda length: length or 99)


def test_the_longer_of_a_pair_counts_and_padding_inside_does_not():
  inputs = np.zeros((3, 2, 5), np.int16)
  inputs[0, 0, :2], inputs[0, 1, :4] = 7, 7
  inputs[1, 1, 2] = 7
  assert lengths(inputs).tolist() == [4, 3, 0]


def test_pictures_have_no_buckets():
  pixels = Dataset(
    np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32), ("a",)
  )
  with pytest.raises(UserError, match="buckets: the data is no sequence"):
    Batches(pixels, (4,))


@pytest.mark.parametrize("buckets", [(4, 4), (8, 4), (0,), (True,)])
def test_buckets_are_growing_lengths(buckets):
  with pytest.raises(ValueError, match="are no growing lengths"):
    Loop(epochs=1, batch_size=1, buckets=buckets)


def test_a_loop_refuses_more_than_there_is():
  with pytest.raises(UserError, match="batch_size: 68 is more than the 67"):
    Loop(epochs=1, batch_size=68).steps_per_epoch(67)
  for wrong in ({"epochs": 0}, {"batch_size": 0}, {"steps_per_dispatch": -1}):
    with pytest.raises(ValueError, match=next(iter(wrong))):
      Loop(**{"epochs": 1, "batch_size": 1, **wrong})
  with pytest.raises(ValueError, match=r"best: 'los' is unknown; .* 'loss'"):
    Loop(epochs=1, batch_size=1, best="los")
