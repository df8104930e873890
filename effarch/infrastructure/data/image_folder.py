"""A folder of images with a folder for each class, or a tar archive of one."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import tempfile

import numpy as np
import pooch
from PIL import Image

from effarch.errors import UserError
from effarch.infrastructure.data import files
from effarch.infrastructure.data.class_tree import ClassTree
from effarch.infrastructure.data.dataset import (
  Dataset,
  Source,
  check_fraction,
  check_split,
  hold_out,
)

_MODES = {1: "L", 3: "RGB"}


@dataclasses.dataclass(frozen=True)
class ImageFolder(Source):
  """Reads `train/<class>/*` and `test/<class>/*`, or `<class>/*` alone.

  All may lie in one more folder. Without `train` and `test`, images are split
  here. Decoded pixels are kept in the user's cache folder, and decoded again
  when a file has changed.

  Args:
    path: the folder or the tar archive.
    image_size: height and width that images are scaled to; 0 takes them as
      they are, all of one size.
    channels: 1 for grey or 3 for colour.
    validation_fraction: of the images that are not test.
    test_fraction: of all, where the folder has no `test`.
    split_seed: the same seed gives the same split.
  """

  path: str
  image_size: int = 0
  channels: int = 3
  validation_fraction: float = 0.1
  test_fraction: float = 0.2
  split_seed: int = 0

  def __post_init__(self):
    check_fraction("validation_fraction", self.validation_fraction)
    check_fraction("test_fraction", self.test_fraction)
    if not self.path:
      raise ValueError("path: is empty")
    if self.image_size < 0:
      raise ValueError(f"image_size: {self.image_size} is negative")
    if self.channels not in _MODES:
      raise ValueError(f"channels: {self.channels} is neither 1 nor 3")

  @functools.cached_property
  def input_shape(self) -> tuple[int, ...]:
    """Height, width, channels."""
    if self.image_size:
      return (self.image_size, self.image_size, self.channels)
    first = next(iter(self._images("train")))
    for name, content in files.read(self._tree.path, lambda n: n == first):
      image = self._open(name, content)
      return (image.height, image.width, self.channels)
    raise UserError(f"{self._tree.path}: {first} is gone")

  @property
  def class_names(self) -> tuple[str, ...]:
    """The folders' names, sorted."""
    return self._tree.classes

  def load(self, split: str) -> Dataset:
    """Returns one part.

    Raises:
      UserError: an image is damaged, of another size, or in no class's
        folder; a class is empty, or in `test` and not in `train`.
    """
    check_split(split)
    if split == "test":
      return self._read(self._images("test"))
    train, validation = hold_out(
      self._read(self._images("train")),
      self.validation_fraction,
      self.split_seed,
      str(self._tree.path),
    )
    return train if split == "train" else validation

  @functools.cached_property
  def _tree(self) -> ClassTree:
    return ClassTree(pathlib.Path(self.path).expanduser(), "image")

  def _images(self, part: str) -> dict[str, str]:
    """Returns the class of every image of `part` by its name."""
    return self._tree.select(part, self.test_fraction, self.split_seed)

  def _read(self, images: dict[str, str]) -> Dataset:
    """Returns pixels and labels, from the cache if it has them."""
    tree = self._tree
    key = repr(
      (tree.fingerprint(), list(images), self.image_size, self.channels)
    )
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    cache = pathlib.Path(pooch.os_cache("effarch")) / f"images-{digest}.npz"
    arrays = _read_cache(cache)
    if arrays is None:
      arrays = self._decode(images)
      _write_cache(cache, *arrays)
    return Dataset(*arrays, tree.classes)

  def _decode(self, images: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels and labels, in the order of the names."""
    tree = self._tree
    inputs = np.zeros((len(images), *self.input_shape), np.uint8)
    places = {name: place for place, name in enumerate(images)}
    for name, content in files.read(tree.path, places.__contains__):
      pixels = np.asarray(self._open(name, content))
      pixels = pixels.reshape(*pixels.shape[:2], self.channels)
      if pixels.shape != self.input_shape:
        (height, width, _), expected = pixels.shape, self.input_shape
        raise UserError(
          f"{tree.path}: {name} is {height}x{width}, not "
          f"{expected[0]}x{expected[1]}; set config.data.image_size"
        )
      inputs[places[name]] = pixels
    return inputs, tree.numbers(images.values())

  def _open(self, name: str, content: bytes) -> Image.Image:
    try:
      image = Image.open(io.BytesIO(content))
      if image.mode[0] in "IF":  # Pillow would clip these at 255.
        raise ValueError("more than 8 bits a channel")
      image = image.convert(_MODES[self.channels])
    except Exception as error:  # A damaged image can raise nearly anything.
      reason = str(error).split(" <")[0]  # Not where the bytes lie in memory
      raise UserError(
        f"{self._tree.path}: {name} is no readable image ({reason})"
      ) from error
    if self.image_size:
      size = (self.image_size, self.image_size)
      image = image.resize(size, Image.Resampling.BILINEAR)
    return image


def _read_cache(cache: pathlib.Path) -> tuple[np.ndarray, np.ndarray] | None:
  try:
    with open(cache, "rb") as file, np.load(file) as arrays:
      return arrays["inputs"], arrays["labels"]
  except Exception:  # Absent, or damaged, which can raise nearly anything.
    return None


def _write_cache(
  cache: pathlib.Path, inputs: np.ndarray, labels: np.ndarray
) -> None:
  """Writes the decoded pixels; a process that dies leaves no part of them."""
  try:
    cache.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=cache.parent, suffix=".partial")
    try:
      with os.fdopen(handle, "wb") as file:
        np.savez(file, inputs=inputs, labels=labels)
      os.replace(partial, cache)
    finally:
      pathlib.Path(partial).unlink(missing_ok=True)
  except OSError as error:
    reason = error.strerror or error
    raise UserError(
      f"{cache.parent}: can't keep the decoded images ({reason}); make room "
      f"there, or set XDG_CACHE_HOME to another folder"
    ) from error
