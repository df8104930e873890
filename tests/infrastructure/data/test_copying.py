"""Copying and induction heads: what was read is asked for again."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.data.copying import Copying
from effarch.infrastructure.data.dataset import PADDING, UNASKED
from effarch.infrastructure.data.induction import InductionHeads

SMALL = {"num_train": 40, "num_validation": 30, "num_test": 20}
SOURCES = [Copying, InductionHeads]


def copied(tokens):
  """What the definition asks at each place of a copied string, by name."""
  place = tokens.index("<separator>")
  string = tokens[:place]
  assert tokens[place + 1 :] == string[:-1]
  return [None] * len(string) + string, string


def followed(tokens):
  """What it asks after a trigger that comes again, by name."""
  first = tokens.index("<trigger>")
  symbols = tokens[:first] + tokens[first + 1 : -1]
  assert tokens[-1] == "<trigger>"
  assert first < len(tokens) - 1
  return [None] * (len(tokens) - 1) + [tokens[first + 1]], symbols


@given(
  data=st.data(),
  case=st.sampled_from([(Copying, copied, 1), (InductionHeads, followed, 3)]),
)
def test_labels_are_what_the_definition_asks(data, case):
  kind, answers, shortest = case
  num_symbols = data.draw(st.integers(1, 9))
  source = kind(
    num_symbols=num_symbols,
    length=shortest + data.draw(st.integers(0, 9)),
    seed=data.draw(st.integers(0, 2**32 - 1)),
    **SMALL,
  )
  names = source.class_names
  assert len(names) == len(set(names)) == source.vocab_size == num_symbols + 2
  assert names[PADDING] == "<padding>"
  split = data.draw(st.sampled_from(["train", "validation", "test"]))
  dataset = source.load(split)
  assert len(dataset) == SMALL[f"num_{split}"]
  assert dataset.inputs.shape == (len(dataset), *source.input_shape)
  assert dataset.labels.shape == (len(dataset), *source.label_shape)
  assert dataset.inputs.dtype == np.int16
  assert dataset.labels.dtype == np.int32
  assert dataset.class_names == names
  for inputs, labels in zip(dataset.inputs, dataset.labels, strict=True):
    expected, symbols = answers([names[token] for token in inputs.tolist()])
    assert all(symbol.startswith("symbol ") for symbol in symbols)
    found = [None if n == UNASKED else names[n] for n in labels.tolist()]
    assert found == expected


def likely(counts, probability):
  """Whether each count is within five deviations of what is expected."""
  expected = np.sum(counts) * probability
  return bool((np.abs(counts - expected) < 5 * np.sqrt(expected)).all())


def test_copied_strings_are_all_equally_likely():
  inputs = Copying(num_symbols=3, length=3).load("train").inputs
  numbers = (inputs[:, :3] - 2) @ np.array([9, 3, 1])
  assert likely(np.bincount(numbers, minlength=27), 1 / 27)


def test_answers_and_their_places_are_all_equally_likely():
  dataset = InductionHeads(num_symbols=3, length=7).load("train")
  places = np.argmax(dataset.inputs == 1, axis=1)
  both = places * 3 + dataset.labels[:, -1] - 2
  assert likely(np.bincount(both, minlength=15), 1 / 15)
  for place in range(6):
    tokens = dataset.inputs[:, place]
    counts = np.bincount(tokens, minlength=5)
    assert likely(counts[2:], 1 / 3)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("num_symbols", [2**15 - 2, 2**15 - 1])
def test_tokens_have_room_for_every_symbol(kind, num_symbols):
  source = kind(num_symbols=num_symbols, **SMALL)
  dataset = source.load("train")
  fits = source.vocab_size - 1 <= np.iinfo(np.int16).max
  assert dataset.inputs.dtype == (np.int16 if fits else np.int32)
  assert dataset.labels.max() > 2**14


@pytest.mark.parametrize(
  ("kind", "expected"),
  [(Copying, "d86e50e1dbdb5ac1"), (InductionHeads, "c92692104526abd6")],
)
def test_examples_are_the_same_on_every_machine_and_in_every_version(
  kind, expected
):
  # What these were at first; another hash means other data under old numbers.
  dataset = kind(**SMALL).load("test")
  content = dataset.inputs.astype("<i4"), dataset.labels.astype("<i4")
  digest = hashlib.sha256(b"".join(part.tobytes() for part in content))
  assert digest.hexdigest()[:16] == expected


@pytest.mark.parametrize("kind", SOURCES)
def test_splits_and_seeds_differ_and_the_same_seed_gives_the_same(kind):
  sizes = dict.fromkeys(SMALL, 50)
  parts = [
    kind(seed=seed, **sizes).load(split).inputs
    for seed in (0, 1)
    for split in ("train", "validation", "test")
  ]
  for first, second in itertools.combinations(parts, 2):
    assert not (first[:, None] == second[None]).all(axis=-1).any()
  again = kind(seed=1, **sizes).load("test").inputs
  np.testing.assert_array_equal(again, parts[-1])


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(
  "name", ["num_symbols", "num_train", "num_validation", "num_test"]
)
def test_what_can_not_be_drawn_is_refused(kind, name):
  with pytest.raises(ValueError, match=f"^{name}: 0 is not positive$"):
    kind(**{name: 0})


def test_too_short_sequences_are_refused():
  with pytest.raises(ValueError, match="length: 0 is not positive"):
    Copying(length=0)
  with pytest.raises(ValueError, match="length: 2 is not at least 3"):
    InductionHeads(length=2)


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_no_split_is_refused(kind):
  with pytest.raises(ValueError, match="split: 'dev'"):
    kind(**SMALL).load("dev")
