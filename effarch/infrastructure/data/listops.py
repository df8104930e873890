"""ListOps: nested operations on lists of digits, long and deep.

Nangia and Bowman, 2018 (arXiv:1804.06028); with the sizes of Long Range Arena
(arXiv:2011.04006), whose generator is `lra_benchmarks/data/listops.py`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.data.dataset import Dataset, check_split
from effarch.infrastructure.data.generated import Generated, check_positive

# Numbered from 1, since 0 is padding
_TOKENS = (*"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
_DIGIT, _OPERATION, _END = 1, 11, 15

# Of all trees that grow at once; bounds the memory, and is part of the data.
_MAX_NODES = 1 << 24
_MAX_TREES = 1 << 16
# Gives up when fewer than one tree in _PATIENCE is kept of _TRIAL or more.
_PATIENCE = 1000
_TRIAL = 1 << 20


@dataclasses.dataclass(frozen=True)
class ListOps(Generated):
  """The value, 0 to 9, of such as `[MAX 2 9 [MIN 4 7 ] 0 ]`.

  A node is an operation with probability 1/4, else a digit, and at
  `max_depth`, where the root is at 1, always a digit. An operation is `[MIN`,
  `[MAX`, `[MED` (the median, rounded down) or `[SM` (the sum modulo 10), and
  has 2 to `max_args` arguments; digits, operations and numbers of arguments
  are uniform. Trees are drawn whole and kept by their length, as in Long Range
  Arena, and both limits are strict, as they are there: an example has more
  than `min_length` and fewer than `max_length` tokens. Each digit, operation
  and `]` is one token. The parentheses of the binary notation, which add
  nothing, are left out.

  No two examples are equal, within a split or between two, as in Long Range
  Arena: the test split is drawn first, then validation, then train, and a tree
  drawn before is refused. Trees are compared by a 64-bit hash of all their
  tokens, so that equal ones never pass. Where few different trees are in the
  limits, the earlier splits hold more of the likely ones.

  Args:
    min_length: every example has more tokens.
    max_length: every example has fewer tokens.
    max_depth: of the deepest digit; 1 is a digit alone.
    max_args: of one operation.
    **sizes: those of `Generated`.
  """

  min_length: int = 500
  max_length: int = 2000
  max_depth: int = 10
  max_args: int = 10
  num_train: int = 96_000
  num_validation: int = 2_000
  num_test: int = 2_000

  class_names = tuple("0123456789")
  vocab_size = 1 + len(_TOKENS)

  def __post_init__(self):
    super().__post_init__()
    check_positive(max_depth=self.max_depth)
    if self.min_length < 0:
      raise ValueError(f"min_length: {self.min_length} is negative")
    if self.max_length < self.min_length + 2:
      raise ValueError(
        f"max_length: {self.max_length} is not above {self.min_length + 1}; "
        f"lengths lie between min_length and max_length, and equal neither"
      )
    if self.max_args < 2:
      raise ValueError(f"max_args: {self.max_args} is not 2 or more")
    longest = 1
    for _ in range(self.max_depth - 1):
      if longest > self.min_length:
        break
      longest = 2 + self.max_args * longest
    if longest <= self.min_length:
      raise ValueError(
        f"min_length: {self.min_length} is not below {longest}, the most that "
        f"max_depth {self.max_depth} and max_args {self.max_args} reach"
      )

  @property
  def input_shape(self) -> tuple[int, ...]:
    """`max_length` tokens, of which the last is always padding."""
    return (self.max_length,)

  def load(self, split: str) -> Dataset:
    """Returns one part.

    Raises:
      UserError: too few of the trees that are drawn are new and in the limits.
    """
    check_split(split)
    seen = np.zeros(0, np.uint64)
    for part in ("test", "validation"):
      dataset, seen = self._draw(part, seen)
      if part == split:
        return dataset
    return self._draw("train", seen)[0]

  def text(self, tokens: np.ndarray) -> str:
    """Returns one example as it is read, without padding."""
    return " ".join(_TOKENS[token - 1] for token in tokens if token)

  def _draw(self, split: str, seen: np.ndarray) -> tuple[Dataset, np.ndarray]:
    """Returns a split without trees of `seen`, and `seen` with its trees."""
    state = self.random(split)
    size = self.num_examples(split)
    inputs = np.zeros((size, self.max_length), np.int16)
    labels = np.zeros(size, np.int32)
    count = min(max(_MAX_NODES // self.max_length, 1), _MAX_TREES)
    # Equal trees have equal hashes; others with a chance of some 1 in 2^60.
    factors = np.random.RandomState(0).randint(
      0, 1 << 64, self.max_length, np.uint64
    )
    filled = drawn = 0
    while filled < size:
      if drawn >= _TRIAL and filled * _PATIENCE < drawn:
        raise UserError(
          f"config.data: of {drawn} trees only {filled} are new and have more "
          f"than {self.min_length} and fewer than {self.max_length} tokens; "
          f"set wider limits, other max_depth or max_args, or num_{split} lower"
        )
      tokens, values = _write(self._grow(state, count), state, self.max_length)
      drawn += count
      keys = tokens.astype(np.uint64) @ factors
      first = np.sort(np.unique(keys, return_index=True)[1])
      new = first[~np.isin(keys[first], seen)][: size - filled]
      seen = np.concatenate([seen, keys[new]])
      places = slice(filled, filled + len(new))
      inputs[places], labels[places] = tokens[new], values[new]
      filled += len(new)
    return Dataset(inputs, labels, self.class_names), seen

  def _grow(self, state: np.random.RandomState, count: int) -> list[np.ndarray]:
    """Grows trees level by level and keeps those with lengths in the limits.

    Returns:
      The number of arguments of each node, 0 for digits, in one array for each
      depth; siblings, cousins and whole trees are in order.
    """
    # One draw says both, as a quarter of its values are operations.
    choices = self.max_args - 1
    dtype = np.min_scalar_type(4 * choices - 1)
    lengths = np.ones(count, np.int64)
    nodes = np.ones(count, np.int64)  # Of each tree, at this depth
    levels = []
    for _ in range(self.max_depth - 1):
      alive = np.flatnonzero(nodes)
      if not len(alive):
        break
      ends = np.cumsum(nodes[alive])
      drawn = state.randint(0, 4 * choices, ends[-1], dtype)
      args = np.where(drawn < choices, drawn + 2, 0).astype(dtype)
      levels.append((nodes, args))
      starts = ends - nodes[alive]
      children = np.add.reduceat(args, starts, dtype=np.int64)
      # Each child is a token, and each operation has one more at its end.
      lengths[alive] += children
      lengths[alive] += np.add.reduceat(args > 0, starts, dtype=np.int64)
      # What is too long already is refused as it stands.
      nodes = np.zeros_like(nodes)
      nodes[alive] = np.where(lengths[alive] < self.max_length, children, 0)
    levels.append((nodes, np.zeros(nodes.sum(), dtype)))
    kept = (lengths > self.min_length) & (lengths < self.max_length)
    return [args[np.repeat(kept, nodes)] for nodes, args in levels]


def _write(
  levels: list[np.ndarray], state: np.random.RandomState, width: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws digits and operations; returns tokens of `width`, and values."""
  values, sizes = np.zeros(0, np.uint8), np.zeros(0, np.int64)
  written = []
  for args in reversed(levels):
    inner = np.flatnonzero(args)
    number = args[inner].astype(np.int64)
    first = np.cumsum(number) - number  # Places of the first children
    kinds = state.randint(0, 4, len(inner), np.uint8)
    results = _apply(kinds, values, number, first)
    values = state.randint(0, 10, len(args), np.uint8)
    tokens = _DIGIT + values
    tokens[inner] = _OPERATION + kinds
    values[inner] = results
    # From each parent's start to its children's; the operation is between.
    offsets = np.cumsum(sizes) - sizes
    offsets -= np.repeat(offsets[first] - 1, number)
    spans = 2 + np.add.reduceat(sizes, first)
    sizes = np.ones(len(args), np.int64)
    sizes[inner] = spans
    written.append((tokens, inner, number, offsets, spans))
  inputs = np.zeros((len(values), width), np.int16)
  flat = inputs.reshape(-1)
  starts = np.arange(len(values)) * width
  for tokens, inner, number, offsets, spans in reversed(written):
    flat[starts] = tokens
    flat[starts[inner] + spans - 1] = _END
    starts = np.repeat(starts[inner], number) + offsets
  return inputs, values.astype(np.int32)


def _apply(
  kinds: np.ndarray, values: np.ndarray, number: np.ndarray, first: np.ndarray
) -> np.ndarray:
  """Returns what each operation makes of its `number` of values."""
  lists = np.repeat(np.arange(len(kinds), dtype=np.int32), number)
  ordered = np.sort(10 * lists + values) % 10
  middle = ordered[first + (number - 1) // 2] + ordered[first + number // 2]
  return np.choose(
    kinds,
    [
      ordered[first],
      ordered[first + number - 1],
      middle // 2,
      np.add.reduceat(values, first, dtype=np.int32) % 10,
    ],
  )
