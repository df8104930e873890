"""A folder, or a tar archive of one, with a folder for each class."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.data import files
from effarch.infrastructure.data.dataset import Dataset, hold_out


class ClassTree:
  """The names of the files, and what they say.

  They are `train/<class>/*` and `test/<class>/*`, or `<class>/*` alone, and
  all may lie in one more folder.

  Args:
    path: the folder or the tar archive.
    noun: what a file is called in errors, `"image"`.
    chosen: the classes to take, all if there are none; others are passed over.
    loose: whether a file beside the classes of `train` or `test` is passed
      over, which is refused otherwise.
    exact: whether both parts must have the same classes; otherwise `test` may
      lack some.

  Attributes:
    parts: the class of every file by its name, under `train` and `test`, or
      under `""` where the folder has neither.
    classes: the names of the classes of the training files, sorted.

  Raises:
    UserError: a file is in no class's folder, or a class is empty, absent
      though chosen, or in one part alone.
  """

  def __init__(
    self,
    path: pathlib.Path,
    noun: str,
    chosen: Iterable[str] = (),
    loose: bool = False,
    exact: bool = False,
  ):
    self.path = path
    self._noun = noun
    self._chosen = frozenset(chosen)
    self._loose = loose
    entries = files.listing(path)
    # One folder around everything says nothing.
    tops = {name.split("/")[0] for name, _ in entries}
    bare = len(tops) != 1 or tops <= {"train", "test"}
    around = "" if bare else f"{tops.pop()}/"
    inner = [
      (name.removeprefix(around), is_folder)
      for name, is_folder in entries
      if name.startswith(around)
    ]
    given = {name.split("/")[0] for name, _ in inner} & {"train", "test"}
    if len(given) == 1:
      (lacking,) = {"train", "test"} - given
      raise UserError(f"{path}: has {given.pop()}/ and no {lacking}/")
    self.parts: dict[str, dict[str, str]] = {}
    for part in sorted(given) or [""]:
      self._add_part(part, f"{part}/" if part else "", around, inner)
    self.classes = self._classes_of("train" if given else "")
    if given:
      self._check_classes(exact)

  def _add_part(self, part, prefix, around, inner) -> None:
    chosen = self._chosen
    found = self.parts[part] = {}
    folders, passed = set(), set()
    for name, is_folder in inner:
      if not name.startswith(prefix):
        continue
      class_name, *rest = name.removeprefix(prefix).split("/")
      in_class = is_folder or rest
      if in_class and chosen and class_name not in chosen:
        passed.add(class_name)
        continue
      if in_class:
        folders.add(class_name)
      if is_folder or not (rest or (part and not self._loose)):
        continue  # What lies beside the classes, such as a README, is no file.
      if len(rest) != 1:
        raise UserError(
          f"{self.path}: {around}{name} lies in no class's folder"
        )
      found[around + name] = class_name
    for class_name in sorted(folders.difference(found.values())):
      folder = f"{around}{prefix}{class_name}"
      raise UserError(f"{self.path}: {folder}/ holds no {self._noun}")
    if not (found or passed):
      raise UserError(f"{self.path}: holds no {prefix}<class>/<{self._noun}>")
    for class_name in sorted(chosen - folders):
      folder = f"{around}{prefix}{class_name}"
      raise UserError(
        f"{self.path}: lacks {folder}/, which config.data.classes asks for; "
        f"choose from {', '.join(sorted(folders | passed))}"
      )

  def _check_classes(self, exact: bool) -> None:
    train, test = set(self.classes), set(self._classes_of("test"))
    lone = [("test", name, "train") for name in sorted(test - train)]
    if exact:
      lone += [("train", name, "test") for name in sorted(train - test)]
    for part, name, other in lone:
      both = tuple(sorted(train & test))
      raise UserError(
        f"{self.path}: {part}/{name} is a class that {other}/ lacks"
        + (f"; set config.data.classes to {both}" if exact and both else "")
      )

  def _classes_of(self, part: str) -> tuple[str, ...]:
    return tuple(sorted(set(self.parts.get(part, {}).values())))

  def select(self, part: str, fraction: float, seed: int) -> dict[str, str]:
    """Returns the class of every file of `train` or `test` by its name.

    Where the folder has neither, `fraction` is held out as `test`. Names are
    what is split, so that no file of the other part is ever read.
    """
    if part in self.parts:
      return self.parts[part]
    rest, test = self.hold_out(self.parts[""], fraction, seed)
    return test if part == "test" else rest

  def hold_out(
    self, named: dict[str, str], fraction: float, seed: int
  ) -> tuple[dict[str, str], dict[str, str]]:
    """Splits files at random, every class in proportion."""
    names = Dataset(
      np.array(list(named)), self.numbers(named.values()), self.classes
    )
    rest, part = (
      {str(name): named[name] for name in dataset.inputs}
      for dataset in hold_out(names, fraction, seed, str(self.path))
    )
    return rest, part

  def numbers(self, names: Iterable[str]) -> np.ndarray:
    """Returns the labels that stand for the names of classes."""
    places = {name: place for place, name in enumerate(self.classes)}
    return np.array([places[name] for name in names], np.int32)

  def fingerprint(self) -> tuple:
    """Changes when a file is added, removed, or written anew."""
    names = [name for named in self.parts.values() for name in named]
    if self.path.is_file():
      paths = [self.path]
    else:
      paths = [self.path / name for name in names]
    try:
      stats = [(s.st_size, s.st_mtime_ns) for s in map(os.stat, paths)]
    except OSError as error:
      raise UserError(f"{error.filename}: {error.strerror}") from error
    return (str(self.path.resolve()), names, stats)
