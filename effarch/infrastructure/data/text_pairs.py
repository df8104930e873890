"""Pairs of texts that match or don't, as in the Long Range Arena's Retrieval.

Tay et al., *Long Range Arena* (2020), arXiv:2011.04006.
"""

from __future__ import annotations

import codecs
import dataclasses
import functools
import io
import pathlib
from collections.abc import Iterable

import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.data import files
from effarch.infrastructure.data.dataset import (
  Dataset,
  Source,
  check_fraction,
  check_split,
  hold_out,
)
from effarch.infrastructure.data.text_tokens import NUM_BYTE_TOKENS, pad_bytes

_ARCHIVES = {".tar", ".tgz", ".gz", ".xz", ".bz2"}
# How files of each part are called, alone or after a name and a dot.
_PARTS = {
  "train": (".train.tsv",),
  "validation": (".validation.tsv", ".eval.tsv"),
  "test": (".test.tsv",),
}
_LABELS = {b"0": 0, b"0.0": 0, b"1": 1, b"1.0": 1}
_LAYOUTS = (3, 5)


@dataclasses.dataclass(frozen=True)
class TextPairs(Source):
  """Reads lines of label, text, text, or of label, id, id, text, text.

  Columns have tabs between them, and quotation marks are text like any other.
  Labels are 0 or 1, also as 0.0 and 1.0. A token is a byte + 1, so a text may
  have any encoding that keeps tab and newline for themselves, which UTF-16
  does not. The carriage return of a line's end is no text, nor is the mark
  that UTF-8 may begin with.

  A folder or archive has `train.tsv`, `test.tsv` and perhaps `validation.tsv`,
  anywhere in it; a name and a dot may come before, and `eval.tsv` is
  `validation.tsv`, so that `new_aan_pairs.train.tsv` is found. Without
  `validation.tsv` a share of `train.tsv` is held out; one file alone is split
  in three.

  Args:
    path: the TSV file, the folder or the tar archive. A file of an archive is
      unpacked into memory as a whole; others are read line by line.
    max_length: bytes of each text; longer ones are cut at their end.
    validation_fraction: of the pairs that are not test.
    test_fraction: of all, where one file has all.
    split_seed: the same seed gives the same split.
  """

  path: str
  max_length: int = 4000
  validation_fraction: float = 0.1
  test_fraction: float = 0.2
  split_seed: int = 0

  vocab_size = NUM_BYTE_TOKENS
  class_names = ("different", "same")

  def __post_init__(self):
    check_fraction("validation_fraction", self.validation_fraction)
    check_fraction("test_fraction", self.test_fraction)
    if not self.path:
      raise ValueError("path: is empty")
    if self.max_length < 1:
      raise ValueError(f"max_length: {self.max_length} is not positive")

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Two texts and their tokens."""
    return (2, self.max_length)

  def load(self, split: str) -> Dataset:
    """Returns one part.

    Raises:
      UserError: a file is absent, empty or damaged; a line has another number
        of columns, a label that is neither 0 nor 1, or an empty text.
    """
    check_split(split)
    names = self._names
    if split in names and (split != "train" or "validation" in names):
      return self._read(names[split])
    rest = self._divided
    if not names:
      rest, test = self._hold_out(rest, self.test_fraction)
      if split == "test":
        return test
    train, validation = self._hold_out(rest, self.validation_fraction)
    return train if split == "train" else validation

  def _hold_out(self, dataset, fraction):
    return hold_out(dataset, fraction, self.split_seed, str(self._path))

  @functools.cached_property
  def _divided(self) -> Dataset:
    """Returns what is split here, kept since two parts or three need it."""
    return self._read(self._names.get("train", ""))

  @property
  def _path(self) -> pathlib.Path:
    return pathlib.Path(self.path).expanduser()

  @functools.cached_property
  def _names(self) -> dict[str, str]:
    """Returns the name of each part's file; of one file alone, none."""
    path = self._path
    if not path.is_dir() and path.suffix not in _ARCHIVES:
      return {}
    names: dict[str, str] = {}
    for name, is_folder in files.listing(path):
      for part, endings in _PARTS.items():
        if is_folder or not f".{name.split('/')[-1]}".endswith(endings):
          continue
        if part in names:
          raise UserError(
            f"{path}: {names[part]} and {name} are both for {part}; leave one"
          )
        names[part] = name
    for part in ("train", "test"):
      if part not in names:
        raise UserError(
          f"{path}: holds no {part}.tsv; a TSV file that config.data.path "
          f"names itself is split here"
        )
    return names

  def _read(self, name: str) -> Dataset:
    """Returns the pairs of a file in the folder or archive, or of `path`."""
    path = self._path
    if path.is_dir() or not name:
      path = path / name
      place = str(path)
      try:
        with open(path, "rb") as file:
          texts, labels = self._parse(file, place)
      except OSError as error:
        raise UserError(f"{place}: {error.strerror}") from error
    else:
      place = f"{path}: {name}"
      (content,) = (c for _, c in files.read(path, lambda n: n == name))
      texts, labels = self._parse(io.BytesIO(content), place)
    tokens = pad_bytes(texts, self.max_length)
    return Dataset(
      tokens.reshape(-1, *self.input_shape),
      np.array(labels, np.int32),
      self.class_names,
    )

  def _parse(
    self, lines: Iterable[bytes], place: str
  ) -> tuple[list[bytes], list[int]]:
    """Returns both texts of every line, one after the other, and labels."""
    texts: list[bytes] = []
    labels: list[int] = []
    columns = 0
    for number, line in enumerate(lines, 1):
      where = f"{place}: line {number}"
      if number == 1:
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
          raise UserError(f"{place}: is UTF-16; save it as UTF-8")
        line = line.removeprefix(codecs.BOM_UTF8)
      fields = line.removesuffix(b"\n").removesuffix(b"\r").split(b"\t")
      columns = columns or len(fields)
      if columns not in _LAYOUTS or len(fields) != columns:
        expected = columns if columns in _LAYOUTS else "3 or 5"
        raise UserError(
          f"{where} has {len(fields)} column{'s' * (len(fields) != 1)}, not "
          f"{expected}; label, text and text have tabs between them, and none "
          f"inside"
        )
      label = _LABELS.get(fields[0])
      if label is None:
        told = fields[0][:20].decode("utf-8", "replace")
        raise UserError(
          f"{where} has the label {told!r}, which is not 0 or 1"
          + ("; remove a line of headings" if number == 1 else "")
        )
      for text in fields[-2:]:
        if not text:
          raise UserError(f"{where} has an empty text; remove the line")
        texts.append(text[: self.max_length])
      labels.append(label)
    if not labels:
      raise UserError(f"{place}: is empty; fetch it again")
    return texts, labels
