import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.data.dataset import PADDING, UNASKED
from effarch.infrastructure.data.recall import BLANK, AssociativeRecall

SMALL = {"num_train": 40, "num_validation": 30, "num_test": 20}


def check(source, inputs, labels):
  """Reads one example from its beginning, as the task is defined."""
  names = source.class_names
  tokens = [names[token] for token in inputs.tolist()]
  value_of = {}
  for place in range(0, 2 * source.num_pairs, 2):
    assert tokens[place].startswith("key ")
    assert tokens[place + 1].startswith("value ")
    value_of[tokens[place]] = tokens[place + 1]
  assert len(value_of) == len(set(value_of.values())) == source.num_pairs
  asked = []
  for place, label in enumerate(labels.tolist()):
    if label != UNASKED:
      assert place >= 2 * source.num_pairs
      assert names[label] == value_of[tokens[place]]
      asked.append(tokens[place])
    elif place >= 2 * source.num_pairs:
      assert source.random_filler == (tokens[place] != "<blank>")
  assert sorted(asked) == sorted(value_of)


@given(data=st.data())
def test_every_key_comes_again_once_and_asks_for_its_value(data):
  num_pairs = data.draw(st.integers(1, 6))
  source = AssociativeRecall(
    length=4 * num_pairs + data.draw(st.integers(0, 9)),
    num_pairs=num_pairs,
    num_keys=num_pairs + data.draw(st.integers(0, 9)),
    num_values=num_pairs + data.draw(st.integers(0, 9)),
    power=data.draw(st.floats(0.01, 1.0)),
    random_filler=data.draw(st.booleans()),
    seed=data.draw(st.integers(0, 2**32 - 1)),
    **SMALL,
  )
  split = data.draw(st.sampled_from(["train", "validation", "test"]))
  dataset = source.load(split)
  assert len(dataset) == SMALL[f"num_{split}"]
  assert dataset.inputs.shape == (len(dataset), *source.input_shape)
  assert dataset.labels.shape == (len(dataset), *source.label_shape)
  assert dataset.inputs.dtype == np.int16
  assert dataset.labels.dtype == np.int32
  assert dataset.class_names == source.class_names
  for inputs, labels in zip(dataset.inputs, dataset.labels, strict=True):
    check(source, inputs, labels)


@pytest.mark.parametrize("keys", [2**15 - 66, 2**15 - 65])
def test_a_class_is_a_token_however_many_there_are(keys):
  source = AssociativeRecall(num_keys=keys, **SMALL)
  assert source.vocab_size == len(source.class_names) == 2 + keys + 64
  assert len(set(source.class_names)) == source.vocab_size
  assert source.class_names[PADDING] == "<padding>"
  assert source.class_names[BLANK] == "<blank>"
  dataset = source.load("train")
  fits = source.vocab_size - 1 <= np.iinfo(np.int16).max
  assert dataset.inputs.dtype == (np.int16 if fits else np.int32)
  for inputs, labels in zip(dataset.inputs, dataset.labels, strict=True):
    check(source, inputs, labels)


def likely(counts, probabilities):
  """Whether each count is within five deviations of what is expected."""
  expected = np.sum(counts) * np.array(probabilities)
  return (np.abs(np.array(counts) - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("power", [0.01, 0.5, 1.0])
def test_gaps_are_drawn_from_the_power_law_without_putting_back(power):
  source = AssociativeRecall(length=16, num_pairs=2, power=power)
  dataset = source.load("train")
  # From the end of the pairs, in steps of two, as the paper counts.
  gaps = [
    ((np.argmax(dataset.inputs[:, 4:] == keys[:, None], axis=1)) / 2).tolist()
    for keys in (dataset.inputs[:, 0], dataset.inputs[:, 2])
  ]
  weights = [(i + 1) ** (power - 1) for i in range(6)]
  chances = [weight / sum(weights) for weight in weights]
  # Pairs of places, the first pair's key first: of the second draw, the
  # chances of what is left sum to one.
  expected = {
    (i, j): chances[i] * chances[j] / (1 - chances[i])
    for i, j in itertools.permutations(range(6), 2)
  }
  drawn = list(zip(*gaps, strict=True))
  assert set(drawn) == set(expected)
  counts = [drawn.count(pair) for pair in expected]
  assert likely(counts, list(expected.values()))


def test_keys_and_values_come_in_every_order_equally_often():
  source = AssociativeRecall(num_pairs=2, num_keys=3, num_values=3)
  inputs = source.load("train").inputs
  keys = map(tuple, (inputs[:, 0:4:2] - 2).tolist())
  values = map(tuple, (inputs[:, 1:4:2] - 5).tolist())
  together = list(zip(keys, values, strict=True))
  orders = itertools.permutations(range(3), 2)
  both = list(itertools.product(orders, repeat=2))
  # Of all four tokens at once, since values must not follow from keys.
  assert likely([together.count(pair) for pair in both], [1 / 36] * 36)


def test_random_filler_is_any_key_or_value():
  source = AssociativeRecall(
    num_pairs=1, num_keys=3, num_values=2, random_filler=True
  )
  inputs = source.load("train").inputs
  # Queries are at every second place, so that these are all fillers.
  counts = np.bincount(inputs[:, 3::2].ravel(), minlength=7)
  assert likely(counts[2:], [1 / 5] * 5)
  assert counts[:2].tolist() == [0, 0]


@pytest.mark.parametrize(
  ("filler", "expected"),
  [
    (False, "8319028d8f832762"),
    (True, "2752d03804c93e69"),
  ],
)
def test_examples_are_the_same_on_every_machine_and_in_every_version(
  filler, expected
):
  # What these were at first; another hash means other data under old numbers.
  dataset = AssociativeRecall(random_filler=filler, **SMALL).load("test")
  content = dataset.inputs.astype("<i4"), dataset.labels.astype("<i4")
  digest = hashlib.sha256(b"".join(part.tobytes() for part in content))
  assert digest.hexdigest()[:16] == expected


def test_splits_and_seeds_differ_and_the_same_seed_gives_the_same():
  sizes = dict.fromkeys(SMALL, 50)
  parts = [
    AssociativeRecall(seed=seed, **sizes).load(split).inputs
    for seed in (0, 1)
    for split in ("train", "validation", "test")
  ]
  for first, second in itertools.combinations(parts, 2):
    assert not (first[:, None] == second[None]).all(axis=-1).any()
  again = AssociativeRecall(seed=1, **sizes).load("test").inputs
  np.testing.assert_array_equal(again, parts[-1])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"num_pairs": 0}, "num_pairs: 0 is not positive"),
    ({"num_train": 0}, "num_train: 0 is not positive"),
    ({"num_validation": -1}, "num_validation: -1 is not positive"),
    ({"num_test": 0}, "num_test: 0 is not positive"),
    ({"length": 31}, "length: 31 is not at least 32, which 8 pairs need"),
    ({"num_keys": 7}, "num_keys: 7 is not at least 8, which 8 pairs need"),
    ({"num_values": 7}, "num_values: 7 is not at least 8"),
    ({"power": 0.0}, r"power: 0.0 is not in \(0, 1\]"),
    ({"power": 1.01}, r"power: 1.01 is not in \(0, 1\]"),
    ({"power": float("nan")}, r"power: nan is not in \(0, 1\]"),
  ],
)
def test_what_can_not_be_drawn_is_refused(arguments, message):
  with pytest.raises(ValueError, match=f"^{message}"):
    AssociativeRecall(**arguments)


def test_what_is_no_split_is_refused():
  with pytest.raises(ValueError, match="split: 'dev'"):
    AssociativeRecall(**SMALL).load("dev")
