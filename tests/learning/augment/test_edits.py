import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effarch.learning.augment import RandomDelete, RandomInsert, RandomSwap
from effarch.learning.augment.edits import (
  random_delete,
  random_insert,
  random_swap,
)

# 200 texts of 0 to 19 tokens, each token once in its text, padded to 20.
LENGTHS = np.arange(200) % 20
TOKENS = np.where(np.arange(20) < LENGTHS[:, None], np.arange(20) + 1, 0)
TOKENS = jnp.asarray(TOKENS + 20 * np.arange(200)[:, None] * (TOKENS > 0))


def texts(found):
  """Each text without its padding, which must be at its end."""
  assert found.dtype == TOKENS.dtype and found.shape == TOKENS.shape
  rows = []
  for row in np.asarray(found):
    length = (row != 0).sum()
    assert (row[:length] != 0).all()
    rows.append(list(row[:length]))
  return rows


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_swap_exchanges_pairs(share):
  found = texts(random_swap(TOKENS, jax.random.key(0), share))
  firsts = collections.Counter()
  for old, new in zip(texts(TOKENS), found, strict=True):
    assert sorted(old) == sorted(new)
    moved = [i for i in range(len(old)) if old[i] != new[i]]
    pairs = min(round(share * len(old) / 2), len(old) // 2)
    assert len(moved) == 2 * pairs
    for place in moved:  # Each stands where its partner stood.
      assert new[old.index(new[place])] == old[place]
    firsts.update(moved)
  if share == 0.3:
    assert len(firsts) == 19  # Any place moves.


def test_delete_leaves_the_others_in_their_order():
  found = texts(random_delete(TOKENS, jax.random.key(0), 0.4))
  for old, new in zip(texts(TOKENS), found, strict=True):
    kept = iter(old)
    assert all(token in kept for token in new)
    assert bool(new) == bool(old)
  share = sum(map(len, found)) / LENGTHS.sum()
  assert share == pytest.approx(0.6, abs=0.04)


def test_delete_of_all_leaves_one_at_random():
  found = texts(random_delete(TOKENS, jax.random.key(0), 1.0))
  assert [len(text) for text in found] == list(np.minimum(LENGTHS, 1))
  places = {
    (text[0] - 1) % 20 / n
    for text, n in zip(found, LENGTHS, strict=True)
    if n > 9
  }
  assert min(places) < 0.2 and max(places) > 0.8


def test_insert_adds_tokens_of_the_text_behind_its_own():
  found = texts(random_insert(TOKENS, jax.random.key(0), 0.3))
  added = room = 0
  for old, new in zip(texts(TOKENS), found, strict=True):
    assert set(new) <= set(old)
    rest = iter(new)
    kept = sum(token in rest for token in old)  # In their order.
    assert kept == len(old) or len(new) == 20
    if old:
      assert new[0] == old[0]
    if 2 * len(old) <= 20:
      added += len(new) - len(old)
      room += len(old)
  assert added / room == pytest.approx(0.3, abs=0.06)


def test_insert_everywhere_alternates_and_is_cut():
  found = texts(random_insert(TOKENS, jax.random.key(0), 1.0))
  others = []
  for old, new in zip(texts(TOKENS), found, strict=True):
    assert len(new) == min(2 * len(old), 20)
    assert new[::2] == old[: len(new[::2])]
    others += [old.index(token) / len(old) for token in new[1::2]]
  assert np.mean(others) == pytest.approx(0.45, abs=0.05)


@pytest.mark.parametrize(
  "technique", [RandomSwap(0.5), RandomDelete(0.5), RandomInsert(0.5)]
)
def test_pairs_of_texts_are_edited_each(technique):
  pairs = TOKENS.reshape(100, 2, 20)
  batch = {"inputs": pairs, "labels": jnp.ones((100, 1))}
  found = technique.batch(batch, jax.random.key(0))["inputs"]
  assert found.shape == pairs.shape
  found = found.reshape(200, 20)
  assert texts(found) != texts(TOKENS)
  text = np.asarray(found - 1) // 20
  rows = np.broadcast_to(np.arange(200)[:, None], text.shape)
  np.testing.assert_array_equal(text[found != 0], rows[np.asarray(found != 0)])
