import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from effarch.learning.augment import SpanMasking, SwitchOut, WordDropout
from effarch.learning.augment.tokens import spans, switch_out, word_dropout

# 400 texts of 1 to 40 tokens, none of them token 1, padded to 40.
LENGTHS = np.arange(400) % 40 + 1
TOKENS = np.random.default_rng(0).integers(2, 30, (400, 40))
TOKENS = jnp.asarray(np.where(np.arange(40) < LENGTHS[:, None], TOKENS, 0))
REAL = np.asarray(TOKENS != 0)


def changed(found):
  """Where tokens are others; padding must be none of them."""
  np.testing.assert_array_equal(np.asarray(found != 0), REAL)
  assert found.dtype == TOKENS.dtype
  return np.asarray(found != TOKENS)


def test_word_dropout_replaces_its_share_by_one_token():
  found = word_dropout(TOKENS, jax.random.key(0), 0.3, 1)
  different = changed(found)
  assert different[REAL].mean() == pytest.approx(0.3, abs=0.02)
  np.testing.assert_array_equal(np.asarray(found)[different], 1)


def test_switch_out_replaces_by_the_papers_distribution():
  length, temperature = 8, 3.0
  inputs = jnp.full((20000, length), 1)
  found = switch_out(inputs, jax.random.key(0), temperature, 1000)
  found = np.asarray(found != 1).sum(1)
  # A number by its exponential chance, then so many tosses of a coin.
  numbers = np.arange(length + 1)
  chance = np.exp(-numbers / temperature)
  chance /= chance.sum()
  expected = sum(
    part * scipy.stats.binom(length, number / length).pmf(numbers)
    for number, part in zip(numbers, chance, strict=True)
  )
  counts = np.bincount(found, minlength=length + 1) / len(found)
  np.testing.assert_allclose(counts, expected, atol=0.015)


def test_switch_out_takes_any_token_but_padding():
  found = switch_out(TOKENS, jax.random.key(1), 20.0, 33)
  different = changed(found)
  assert 0.1 < different[REAL].mean() < 0.6
  assert set(np.unique(np.asarray(found)[different])) == set(range(1, 33))


def test_spans_are_a_loop_over_their_beginnings():
  rng = jax.random.key(0)
  found = np.asarray(spans(rng, (50, 40), 0.3, 4.0))
  start_rng, length_rng = jax.random.split(rng)
  starts = jax.random.bernoulli(start_rng, -np.log(0.7) / 4, (50, 40))
  lengths = jax.random.geometric(length_rng, 0.25, (50, 40))
  expected = np.zeros((50, 40), bool)
  for row, place in np.argwhere(np.asarray(starts)):
    expected[row, place : place + lengths[row, place]] = True
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  ("rate", "mean"), [(0.15, 3.0), (0.5, 8.0), (0.2, 1.0)]
)
def test_spans_cover_about_their_rate(rate, mean):
  found = np.asarray(spans(jax.random.key(1), (100, 1000), rate, mean))
  assert found.mean() == pytest.approx(rate, rel=0.15)


def test_span_masking_masks_tokens_alone():
  found = SpanMasking(0.4, 3.0, token=1).batch(
    {"inputs": TOKENS}, jax.random.key(0)
  )["inputs"]
  different = changed(found)
  np.testing.assert_array_equal(np.asarray(found)[different], 1)
  assert 0.25 < different[REAL].mean() < 0.45


@pytest.mark.parametrize(
  "technique", [WordDropout(0.5), SwitchOut(30, 20.0), SpanMasking(0.5)]
)
@pytest.mark.parametrize("shape", [(400, 40), (200, 2, 40)])
def test_labels_of_tokens_and_pairs_of_texts_stay_sound(technique, shape):
  inputs = TOKENS.reshape(shape)
  labels = jax.nn.one_hot(inputs, 30)
  batch = {"inputs": inputs, "labels": labels}
  found = technique.batch(batch, jax.random.key(0))
  assert found["labels"] is labels
  assert changed(found["inputs"].reshape(400, 40)).any()
