"""CIFAR-10 and CIFAR-100 from the official archives.

Krizhevsky, *Learning Multiple Layers of Features from Tiny Images* (2009).
Both official forms are read, binary and Python, as an archive or extracted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pathlib
import pickle
from typing import Any, ClassVar

import numpy as np
import pooch

from effarch.errors import UserError
from effarch.infrastructure.data import files
from effarch.infrastructure.data.dataset import (
  Dataset,
  Source,
  check_fraction,
  check_split,
  hold_out,
)

_SITE = "https://www.cs.toronto.edu/~kriz/"
_PIXELS = 3 * 32 * 32


@dataclasses.dataclass(frozen=True)
class _CIFAR(Source):
  """What both share.

  Args:
    path: an official archive, the folder it was extracted to, or a folder
      with one of these; where there is none, it is downloaded into `path`.
    validation_fraction: of the official training images.
    split_seed: the same seed gives the same validation images.
  """

  path: str
  validation_fraction: float = 0.1
  split_seed: int = 0

  input_shape = (32, 32, 3)
  # Archive names with their MD5 sums, as the official page gives them.
  archives: ClassVar[dict[str, str]]
  folders: ClassVar[tuple[str, ...]]
  # How many images each official file holds.
  train_files: ClassVar[dict[str, int]]
  test_files: ClassVar[dict[str, int]]
  # In a binary row, bytes before the pixels, the last of them the label.
  label_bytes: ClassVar[int]
  label_key: ClassVar[bytes]

  def __post_init__(self):
    check_fraction("validation_fraction", self.validation_fraction)
    if not self.path:
      raise ValueError("path: is empty")

  def load(self, split: str) -> Dataset:
    """Returns one part.

    Raises:
      UserError: the files are absent, damaged or of another data set.
    """
    check_split(split)
    expected = self.test_files if split == "test" else self.train_files
    place = self._find(pathlib.Path(self.path).expanduser())
    parts = {}
    for name, content in files.read(place, lambda n: _stem(n) in expected):
      source = f"{place}: {name}"
      parse = self._parse_binary if name.endswith(".bin") else _parse_pickle
      parts[_stem(name)] = self._check(
        source, *parse(source, content, self), expected[_stem(name)]
      )
    for name in expected:
      if name not in parts:
        raise UserError(f"{place}: lacks {name}; extract or fetch it again")
    rows = [parts[name] for name in expected]
    dataset = Dataset(
      np.concatenate([images for images, _ in rows]),
      np.concatenate([labels for _, labels in rows]),
      self.class_names,
    )
    if split == "test":
      return dataset
    train, validation = hold_out(
      dataset, self.validation_fraction, self.split_seed, str(place)
    )
    return train if split == "train" else validation

  def _find(self, path: pathlib.Path) -> pathlib.Path:
    if path.is_file():
      return path
    for name in (*self.folders, *self.archives):
      if (path / name).exists():
        return path / name
    batches = (*self.train_files, *self.test_files)
    if path.is_dir() and any(_stem(p.name) in batches for p in path.iterdir()):
      return path
    name, md5 = next(iter(self.archives.items()))
    absent = [p for p in (path, *path.parents) if not p.exists()]
    try:
      return pathlib.Path(
        pooch.retrieve(_SITE + name, f"md5:{md5}", fname=name, path=path)
      )
    except (OSError, ValueError) as error:
      raise UserError(
        f"config.data.path: {path} holds none of "
        f"{', '.join(self.archives)}, and {_SITE}{name} can't be fetched "
        f"({type(error).__name__}); put one of them into {path}"
      ) from error
    finally:
      # Pooch makes folders before it connects; what holds the file stays.
      for folder in absent:
        with contextlib.suppress(OSError):
          folder.rmdir()

  @staticmethod
  def _parse_binary(source, content, kind) -> tuple[np.ndarray, np.ndarray]:
    row = kind.label_bytes + _PIXELS
    if len(content) % row:
      raise UserError(
        f"{source}: {len(content)} bytes are no whole number of "
        f"{row}-byte rows; truncated, or of another data set"
      )
    rows = np.frombuffer(content, np.uint8).reshape(-1, row)
    return rows[:, kind.label_bytes :], rows[:, kind.label_bytes - 1]

  def _check(self, source, pixels, labels, expected):
    if labels.shape != (expected,) or pixels.shape != (expected, _PIXELS):
      raise UserError(
        f"{source}: holds labels of shape {labels.shape} and pixels of shape "
        f"{pixels.shape}, not {(expected,)} and {(expected, _PIXELS)}; "
        f"truncated, or of another data set"
      )
    outside = (labels < 0) | (labels >= len(self.class_names))
    if outside.any():
      place = int(np.argmax(outside))
      raise UserError(
        f"{source}: image {place} has label {labels[place]}, outside 0 to "
        f"{len(self.class_names) - 1}"
      )
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class CIFAR10(_CIFAR):
  __doc__ = f"CIFAR-10: 60,000 images, 10 classes.\n{_CIFAR.__doc__}"

  archives: ClassVar[dict[str, str]] = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
  }
  folders = ("cifar-10-batches-bin", "cifar-10-batches-py")
  train_files: ClassVar[dict[str, int]] = {
    f"data_batch_{i}": 10_000 for i in range(1, 6)
  }
  test_files: ClassVar[dict[str, int]] = {"test_batch": 10_000}
  label_bytes = 1
  label_key = b"labels"
  class_names = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
  )


@dataclasses.dataclass(frozen=True)
class CIFAR100(_CIFAR):
  __doc__ = f"CIFAR-100 with its fine labels: 60,000 images.\n{_CIFAR.__doc__}"

  archives: ClassVar[dict[str, str]] = {
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
  }
  folders = ("cifar-100-binary", "cifar-100-python")
  train_files: ClassVar[dict[str, int]] = {"train": 50_000}
  test_files: ClassVar[dict[str, int]] = {"test": 10_000}
  label_bytes = 2
  label_key = b"fine_labels"
  # The names are in the archive's own list, in the order of the numbers.
  class_names = tuple(f"{i:02d}" for i in range(100))


class _ArraysOnly(pickle._Unpickler):
  """Loads what NumPy arrays, lists and strings need, and nothing else.

  A pickle names functions for its reader to call; these are all that it may
  name, so a doctored file can run no code. This is the unpickler in Python:
  the one in C sets aside gigabytes where a damaged file asks for them.
  """

  def find_class(self, module: str, name: str) -> Any:
    if name == "_reconstruct" and module.endswith(".multiarray"):
      return np.ndarray.__reduce__(np.empty(0))[0]
    if (module, name) == ("numpy", "ndarray"):
      return np.ndarray
    if (module, name) == ("numpy", "dtype"):
      return np.dtype
    if (module, name) == ("_codecs", "encode"):
      return _latin1
    raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _latin1(text: str, encoding: str) -> bytes:
  """Stands for `codecs.encode`, by which Python 3 writes bytes for 2."""
  if encoding != "latin1":
    raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
  return text.encode("latin1")


def _parse_pickle(source, content, kind) -> tuple[np.ndarray, np.ndarray]:
  try:
    loaded = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    pixels = np.asarray(loaded[b"data"])
    labels = np.asarray(loaded[kind.label_key])
    if (pixels.dtype, labels.dtype.kind) != (np.uint8, "i"):
      raise ValueError(f"{pixels.dtype} pixels and {labels.dtype} labels")
  except Exception as error:  # A damaged pickle can raise nearly anything.
    raise UserError(
      f"{source}: no CIFAR batch ({error!r}); fetch it again"
    ) from error
  return pixels, labels


def _stem(name: str) -> str:
  return name.split("/")[-1].removesuffix(".bin")
