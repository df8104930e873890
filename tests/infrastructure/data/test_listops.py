import hashlib
import random
import statistics

import numpy as np
import pytest

from effarch.errors import UserError
from effarch.infrastructure.data.listops import ListOps

SPLITS = ("train", "validation", "test")
VOCABULARY = ["", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]"]
APPLY = {
  "[MIN": min,
  "[MAX": max,
  "[MED": lambda values: int(statistics.median(values)),
  "[SM": lambda values: sum(values) % 10,
}
SETTINGS = {
  "long range arena": {},
  "short": {"min_length": 0, "max_length": 40},
  "two arguments, deep": {
    "min_length": 30,
    "max_length": 200,
    "max_depth": 25,
    "max_args": 2,
  },
  # More of them than one byte tells from digits
  "many arguments": {
    "min_length": 60,
    "max_length": 150,
    "max_depth": 3,
    "max_args": 90,
  },
  "one list": {"min_length": 3, "max_length": 12, "max_depth": 2},
}


def small(train=120, validation=60, test=60, **arguments):
  return ListOps(
    num_train=train, num_validation=validation, num_test=test, **arguments
  )


def limited(values):
  names = ("min_length", "max_length", "max_depth", "max_args")
  return dict(zip(names, values, strict=False))


def words(row):
  """The tokens of a row, which has padding at its end alone."""
  length = np.count_nonzero(row)
  assert not row[length:].any()
  return [VOCABULARY[token] for token in row[:length]]


def parse(sequence, depth=1):
  """Takes one tree off the front of `sequence`.

  Returns:
    Its value, and depth and number of arguments of all nodes, 0 for digits.
  """
  word = sequence.pop(0)
  if word.isdigit():
    return int(word), [(depth, 0)]
  values, nodes = [], []
  while sequence[0] != "]":
    value, below = parse(sequence, depth + 1)
    values.append(value)
    nodes += below
  sequence.pop(0)
  return APPLY[word](values), [(depth, len(values)), *nodes]


def parsed(row):
  sequence = words(row)
  tree = parse(sequence)
  assert not sequence
  return tree


def rows(dataset):
  return {row.tobytes() for row in dataset.inputs}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_the_values_and_trees_are_in_the_limits(name, split):
  source = small(**SETTINGS[name])
  dataset = source.load(split)
  assert len(dataset) == getattr(source, f"num_{split}")
  assert dataset.inputs.shape[1:] == source.input_shape
  assert dataset.inputs.dtype == np.int16
  assert dataset.labels.dtype == np.int32
  assert source.vocab_size == len(VOCABULARY)
  assert dataset.class_names == tuple("0123456789")
  lengths, shapes = [], []
  for row, label in zip(dataset.inputs, dataset.labels, strict=True):
    value, nodes = parsed(row)
    assert value == label
    lengths.append(len(words(row)))
    shapes += nodes
  assert min(lengths) > source.min_length
  assert max(lengths) < source.max_length
  depths, args = zip(*shapes, strict=True)
  assert max(depths) <= source.max_depth
  assert set(args) <= {0, *range(2, source.max_args + 1)}


@pytest.mark.parametrize("max_depth", [1, 2, 3, 4])
def test_trees_reach_max_depth_and_max_args(max_depth):
  source = ListOps(
    min_length=0,
    max_length=200,
    max_depth=max_depth,
    max_args=3,
    num_train=5,
    num_validation=4,
    num_test=1,
  )
  if max_depth > 1:  # Else there are but ten.
    source = ListOps(
      min_length=0,
      max_length=200,
      max_depth=max_depth,
      max_args=3,
      num_train=500,
      num_validation=1,
      num_test=1,
    )
  nodes = [n for row in source.load("train").inputs for n in parsed(row)[1]]
  assert max(depth for depth, _ in nodes) == max_depth
  assert max(args for _, args in nodes) == (3 if max_depth > 1 else 0)


def reference(rng, max_depth, max_args, depth=1):
  """One tree as Long Range Arena draws it, in words."""
  if depth == max_depth or rng.random() > 0.25:
    return [rng.choice("0123456789")]
  sequence = []
  for _ in range(rng.randint(2, max_args)):
    sequence += reference(rng, max_depth, max_args, depth + 1)
  return [rng.choice(["[MIN", "[MAX", "[MED", "[SM"]), *sequence, "]"]


def features(sequence):
  """What is compared of one tree, one number each."""
  value, nodes = parse(list(sequence))
  depths = [depth for depth, _ in nodes]
  args = [args for _, args in nodes if args]
  return [
    len(sequence),
    len(sequence) < 35,
    len(sequence) > 100,
    np.mean(args),
    nodes[0][1],
    *(args.count(number) / len(args) for number in range(2, 7)),
    *(depths.count(depth) for depth in range(2, 7)),
    *(sequence.count(word) / len(sequence) for word in VOCABULARY[1:]),
    *(value == digit for digit in range(10)),
  ]


def test_trees_are_distributed_as_those_of_a_plain_generator():
  # So long that no plain tree comes twice, and so short that a good share of
  # all trees is refused for either limit
  limits = (20, 120)
  source = ListOps(**limited(limits), max_depth=6, max_args=6, num_train=4000)
  ours = [features(words(row)) for row in source.load("train").inputs]
  rng = random.Random(0)
  drawn, theirs = 0, []
  while len(theirs) < 4000:
    drawn += 1
    sequence = reference(rng, 6, 6)
    if limits[0] < len(sequence) < limits[1]:
      theirs.append(features(sequence))
  ours, theirs = np.array(ours, float), np.array(theirs, float)
  error = np.sqrt((ours.var(0) + theirs.var(0)) / 4000)
  # By chance, one of 40 is 4 errors off for 1 of 400 seeds.
  assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
  # Of 50,000 trees that were grown, as many are kept.
  levels = source._grow(source.random("train"), 50_000)
  share, other = len(levels[0]) / 50_000, 4000 / drawn
  error = np.sqrt(other * (1 - other) * (1 / 50_000 + 1 / drawn))
  assert abs(share - other) < 4 * error


def exact_lengths(max_length, max_depth, max_args):
  """The chance of each length below `max_length`.

  The coefficients of one node's generating function, from the digits up.
  """
  digit = np.eye(1, max_length, 1)[0]
  chance = digit
  for _ in range(max_depth - 1):
    power, lists = chance, np.zeros(max_length)
    for _ in range(max_args - 1):
      power = np.convolve(power, chance)[:max_length]
      lists += power / (max_args - 1)
    chance = 0.75 * digit
    chance[2:] += 0.25 * lists[:-2]
  return chance


@pytest.mark.parametrize(
  "arguments", [(500, 2000, 10, 10), (30, 100, 20, 2), (30, 60, 3, 100)]
)
def test_lengths_are_distributed_as_computed(arguments):
  low, *rest = arguments
  chance = exact_lengths(*rest)
  chance[: low + 1] = 0
  source = ListOps(**limited(arguments), num_test=4000)
  lengths = np.count_nonzero(source.load("test").inputs, axis=1)
  found = np.bincount(lengths, minlength=len(chance)) / len(lengths)
  distance = np.abs(np.cumsum(found) - np.cumsum(chance / chance.sum())).max()
  # Kolmogorov-Smirnov: by chance, above 1.95 for 1 of 1,000 seeds
  assert distance * np.sqrt(len(lengths)) < 1.95


@pytest.mark.parametrize(
  ("arguments", "digests"),
  [
    (
      {},
      [
        "e4a1d8605b883121742b410684995700bc1407d101e7891ab4909e2d148d84aa",
        "d0a64325614e2af0be1beb703fc8ff37e6a4db78a4a49c1770920aa2382cf67e",
        "dfe7254024b0c3af6bdea8cd15c635ffc148452be2b379595fb4a09726d5de92",
      ],
    ),
    (
      {"min_length": 10, "max_length": 50, "seed": 3},
      [
        "583c3221bef24e71e47304d2714c1bf5d00ef7d521ab39e73bde69e78350d4d2",
        "6d3f4ad81650f7e7e7c304580f67197f953d528625b1e59ac5bca51fc11b3862",
        "813fcf0484808469a699bacd980e9cdbbd176aed026e14df983ca3ee5f17616c",
      ],
    ),
  ],
)
def test_data_is_the_same_on_every_machine_and_version(arguments, digests):
  # Recorded once; what changes them changes data that results were made with.
  source = small(30, 20, 10, **arguments)
  for split, expected in zip(SPLITS, digests, strict=True):
    dataset = source.load(split)
    content = dataset.inputs.astype("<i2").tobytes()
    content += dataset.labels.astype("<i4").tobytes()
    assert hashlib.sha256(content).hexdigest() == expected


def test_no_tree_comes_twice_where_few_are_short_enough():
  # 10 digits, and 400, 4,000 and 40,000 lists
  source = ListOps(
    min_length=0,
    max_length=7,
    max_depth=2,
    max_args=4,
    num_train=4000,
    num_validation=400,
    num_test=400,
  )
  parts = [source.load(split) for split in SPLITS]
  assert len(set().union(*map(rows, parts))) == 4800
  # A digit is drawn so often that the split drawn first has them all.
  singles = np.count_nonzero(parts[2].inputs, axis=1) == 1
  assert sorted(parts[2].labels[singles]) == list(range(10))


def test_all_trees_are_found_and_one_more_is_refused():
  source = ListOps(
    min_length=0, max_length=5, num_train=300, num_validation=60, num_test=50
  )
  found = set().union(*(rows(source.load(split)) for split in SPLITS))
  assert len(found) == 10 + 4 * 10 * 10
  source = ListOps(
    min_length=0, max_length=5, num_train=301, num_validation=60, num_test=50
  )
  assert len(source.load("validation")) == 60
  with pytest.raises(
    UserError, match=r"only 300 are new and .* num_train lower"
  ):
    source.load("train")


@pytest.mark.parametrize(
  "arguments",
  [
    {"min_length": 1, "max_length": 4},  # No tree has 2 or 3.
    {"min_length": 1_000, "max_length": 1_100, "max_depth": 4},
  ],
)
def test_limits_that_trees_hardly_meet_are_refused_in_time(arguments):
  with pytest.raises(UserError) as caught:
    ListOps(**arguments).load("test")
  message = str(caught.value)
  assert message.startswith("config.data: of ")
  assert "set wider limits" in message
  assert "\n" not in message


def test_seeds_and_splits_differ_and_the_same_are_equal():
  source, again, other = small(), small(), small(seed=1)
  parts = {split: source.load(split) for split in SPLITS}
  for split, part in parts.items():
    np.testing.assert_array_equal(part.inputs, again.load(split).inputs)
    np.testing.assert_array_equal(part.labels, again.load(split).labels)
    assert not rows(part) & rows(other.load(split))
  assert len(set().union(*map(rows, parts.values()))) == 240


def test_text_is_what_a_reader_evaluates():
  source = small(min_length=0, max_length=20)
  dataset = source.load("test")
  for row in dataset.inputs:
    assert source.text(row) == " ".join(words(row))
  row = np.array([12, 3, 10, 11, 5, 8, 15, 1, 15, 0, 0])
  assert source.text(row) == "[MAX 2 9 [MIN 4 7 ] 0 ]"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"min_length": -1}, "^min_length: -1 is negative"),
    ({"max_length": 501}, "^max_length: 501 is not above 501"),
    ({"max_depth": 0}, "^max_depth: 0 is not positive"),
    ({"max_args": 1}, "^max_args: 1 is not 2 or more"),
    (
      {"min_length": 5000, "max_length": 6000, "max_depth": 2},
      "^min_length: 5000 is not below 12, the most that max_depth 2 and",
    ),
    ({"min_length": 12, "max_length": 20, "max_depth": 2}, "not below 12"),
    ({"min_length": 1, "max_depth": 1}, "^min_length: 1 is not below 1,"),
    ({"num_train": 0}, "^num_train: 0 is not positive"),
    ({"num_validation": 0}, "^num_validation: 0 is not positive"),
    ({"num_test": 0}, "^num_test: 0 is not positive"),
  ],
)
def test_refuses_what_no_tree_can_meet(arguments, message):
  with pytest.raises(ValueError, match=message):
    ListOps(**arguments)


def test_the_longest_tree_is_no_error():
  source = ListOps(
    min_length=11,
    max_length=13,
    max_depth=2,
    num_train=1,
    num_validation=1,
    num_test=20,
  )
  dataset = source.load("test")
  assert {len(words(row)) for row in dataset.inputs} == {12}


def test_refuses_what_is_no_split():
  with pytest.raises(ValueError, match="split: 'dev'"):
    ListOps().load("dev")
