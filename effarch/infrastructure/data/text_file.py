"""Language modelling of one text file: predict each character, or byte."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import pathlib

import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.data.dataset import (
  Dataset,
  Source,
  check_fraction,
  check_split,
)
from effarch.infrastructure.data.text_tokens import (
  Bytes,
  Characters,
  Tokens,
  code_points,
)


@dataclasses.dataclass(frozen=True)
class TextFile(Source):
  """The beginning trains, what follows validates, the end tests.

  Each part is cut into windows of `length` inputs with the `length` tokens
  that come next as labels, so every token of a part but its first is predicted
  once; less than a window is left over at a part's end and dropped.

  The characters are those of the training part; others, which only the other
  parts have, are one unknown token, as inputs and as labels. Newlines stay as
  they are in the file. The mark that UTF-8 may begin with is no character;
  as bytes it is read like the rest.

  Args:
    path: the file; characters are read as UTF-8, bytes from any file.
    tokens: `"character"`, or `"byte"` for byte + 1.
    length: tokens of a window.
    stride: from one window of the training part to the next; 0 is `length`,
      less makes more windows, which overlap.
    validation_fraction: of the file.
    test_fraction: of the file.
  """

  path: str
  tokens: str = "character"
  length: int = 256
  stride: int = 0
  validation_fraction: float = 0.05
  test_fraction: float = 0.05

  def __post_init__(self):
    check_fraction("validation_fraction", self.validation_fraction)
    check_fraction("test_fraction", self.test_fraction)
    if self.validation_fraction + self.test_fraction >= 1:
      raise ValueError(
        f"test_fraction: {self.test_fraction} and validation_fraction "
        f"{self.validation_fraction} leave nothing to train on"
      )
    if not self.path:
      raise ValueError("path: is empty")
    if self.tokens not in ("character", "byte"):
      raise ValueError(f"tokens: {self.tokens!r} is not character or byte")
    if self.length < 1:
      raise ValueError(f"length: {self.length} is not positive")
    if not 0 <= self.stride <= self.length:
      raise ValueError(f"stride: {self.stride} is not in [0, {self.length}]")

  @property
  def input_shape(self) -> tuple[int, ...]:
    """How many tokens a window has."""
    return (self.length,)

  @property
  def label_shape(self) -> tuple[int, ...]:
    """One label for each token."""
    return (self.length,)

  @property
  def class_names(self) -> tuple[str, ...]:
    """The tokens: class `k` is token `k`."""
    return self._alphabet.names

  @property
  def vocab_size(self) -> int:
    """How many tokens there are."""
    return len(self.class_names)

  def load(self, split: str) -> Dataset:
    """Returns the windows of one part.

    Raises:
      UserError: the file can't be read, is no UTF-8 where characters are
        asked for, or too short for a window of each part.
    """
    check_split(split)
    codes = self._codes[self._parts[split]]
    numbers = self._alphabet.number(codes)
    step = (self.stride if split == "train" else 0) or self.length
    window = np.lib.stride_tricks.sliding_window_view
    inputs, labels = (
      window(shifted, self.length)[::step]
      for shifted in (numbers[:-1], numbers[1:])
    )
    return Dataset(
      np.ascontiguousarray(inputs), labels.astype(np.int32), self.class_names
    )

  def encode(self, text: str) -> np.ndarray:
    """Returns the tokens of a text; unknown characters are the unknown one."""
    return self._alphabet.encode(text)

  def decode(self, tokens: Tokens) -> str:
    """Returns the text of tokens without padding.

    The unknown token and bytes that are no UTF-8 become U+FFFD.

    Raises:
      ValueError: a number is no token.
    """
    return self._alphabet.decode(tokens)

  @functools.cached_property
  def _alphabet(self) -> Bytes | Characters:
    if self.tokens == "byte":
      return Bytes()
    return Characters(self._codes[self._parts["train"]])

  @functools.cached_property
  def _parts(self) -> dict[str, slice]:
    """Returns where in the file each part lies."""
    size = len(self._codes)
    validation = int(size * self.validation_fraction)
    test = int(size * self.test_fraction)
    sizes = {
      "train": size - validation - test,
      "validation": validation,
      "test": test,
    }
    least = min(sizes, key=lambda name: sizes[name])
    if sizes[least] <= self.length:
      smaller = f"set config.data.length to {sizes[least] - 1} or less, or "
      raise UserError(
        f"{self._file}: of {size} {self.tokens}s {least} has {sizes[least]}, "
        f"and a window needs {self.length + 1}; "
        f"{smaller if sizes[least] > 1 else ''}take a longer text"
      )
    ends = np.cumsum(list(sizes.values())).tolist()
    starts = [0, *ends[:-1]]
    return dict(zip(sizes, map(slice, starts, ends), strict=True))

  @property
  def _file(self) -> pathlib.Path:
    return pathlib.Path(self.path).expanduser()

  @functools.cached_property
  def _codes(self) -> np.ndarray:
    """Returns the file's bytes, or its characters' code points."""
    try:
      content = self._file.read_bytes()
    except IsADirectoryError as error:
      raise UserError(
        f"{self._file}: is a folder; name one text file in it"
      ) from error
    except OSError as error:
      raise UserError(f"{self._file}: {error.strerror}") from error
    if not content:
      raise UserError(f"{self._file}: is empty")
    if self.tokens == "byte":
      return np.frombuffer(content, np.uint8)
    try:
      text = content.decode("utf-8")
    except UnicodeDecodeError as error:
      raise UserError(
        f"{self._file}: byte {error.start} is no UTF-8 ({error.reason}); save "
        f'it as UTF-8, or set config.data.tokens to "byte", which reads any '
        f"file"
      ) from error
    return code_points(text.removeprefix(codecs.BOM_UTF8.decode()))
