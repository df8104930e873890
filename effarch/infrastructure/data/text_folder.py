"""A folder of texts with a folder for each class, or a tar archive of one."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from effarch.errors import UserError
from effarch.infrastructure.data import files
from effarch.infrastructure.data.class_tree import ClassTree
from effarch.infrastructure.data.dataset import (
  Dataset,
  Source,
  check_fraction,
  check_split,
)
from effarch.infrastructure.data.text_tokens import NUM_BYTE_TOKENS, pad_bytes


@dataclasses.dataclass(frozen=True)
class TextFolder(Source):
  """Reads `train/<class>/*` and `test/<class>/*`, or `<class>/*` alone.

  All may lie in one more folder, as in IMDB's archive. Without `train` and
  `test`, texts are split here. A token is a byte + 1, so a text may have any
  encoding and is taken as it is in its file. Files beside the classes' folders
  are no texts.

  Args:
    path: the folder or the tar archive.
    max_length: bytes of a text; longer ones are cut at their end.
    classes: those to take, `("neg", "pos")`; all if it is empty.
    validation_fraction: of the texts that are not test.
    test_fraction: of all, where the folder has no `test`.
    split_seed: the same seed gives the same split.
  """

  path: str
  max_length: int = 4096
  classes: tuple[str, ...] = ()
  validation_fraction: float = 0.1
  test_fraction: float = 0.2
  split_seed: int = 0

  vocab_size = NUM_BYTE_TOKENS

  def __post_init__(self):
    check_fraction("validation_fraction", self.validation_fraction)
    check_fraction("test_fraction", self.test_fraction)
    if not self.path:
      raise ValueError("path: is empty")
    if self.max_length < 1:
      raise ValueError(f"max_length: {self.max_length} is not positive")
    if not isinstance(self.classes, tuple | list):
      raise ValueError(f"classes: {self.classes!r} is not a tuple of names")

  @property
  def input_shape(self) -> tuple[int, ...]:
    """How many tokens a text has."""
    return (self.max_length,)

  @property
  def class_names(self) -> tuple[str, ...]:
    """The folders' names, sorted."""
    return self._tree.classes

  def load(self, split: str) -> Dataset:
    """Returns one part; the texts of the others are not read.

    Raises:
      UserError: a text is empty or in no class's folder; a class is empty, or
        in one of `train` and `test` alone.
    """
    check_split(split)
    tree = self._tree
    part = "test" if split == "test" else "train"
    texts = tree.select(part, self.test_fraction, self.split_seed)
    if split != "test":
      train, validation = tree.hold_out(
        texts, self.validation_fraction, self.split_seed
      )
      texts = train if split == "train" else validation
    return self._read(texts)

  @functools.cached_property
  def _tree(self) -> ClassTree:
    path = pathlib.Path(self.path).expanduser()
    return ClassTree(path, "text", self.classes, loose=True, exact=True)

  def _read(self, texts: dict[str, str]) -> Dataset:
    """Returns tokens and labels, in the order of the names."""
    tree = self._tree
    contents = dict.fromkeys(texts, b"")
    for name, content in files.read(tree.path, contents.__contains__):
      if not content:
        raise UserError(
          f"{tree.path}: {name} is empty; remove it, or fetch it again"
        )
      contents[name] = content[: self.max_length]
    return Dataset(
      pad_bytes(list(contents.values()), self.max_length),
      tree.numbers(texts.values()),
      tree.classes,
    )
