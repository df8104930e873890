"""Files that run: each kind in its runtime, known by its suffix."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

from effarch.errors import UserError
from effarch.infrastructure.runtime.litert import LiteRTModel, quiet
from effarch.infrastructure.runtime.onnx import OnnxModel
from effarch.infrastructure.runtime.stablehlo import StableHLOModel

RUNTIMES = {
  ".onnx": OnnxModel,
  ".stablehlo": StableHLOModel,
  ".tflite": LiteRTModel,
}

__all__ = [
  "RUNTIMES",
  "LiteRTModel",
  "OnnxModel",
  "StableHLOModel",
  "inference",
  "load",
  "quiet",
]


def load(
  path: str | os.PathLike,
) -> LiteRTModel | OnnxModel | StableHLOModel:
  """Returns a file in its runtime, from inputs `N ...` to outputs `N K`.

  Raises:
    UserError: there is no such file, its kind is unknown, or its runtime is
      not installed or refuses it.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix not in RUNTIMES:
    raise UserError(f"{path}: no {', '.join(RUNTIMES)} file")
  if not path.is_file():
    raise UserError(f"{path}: there is no such file")
  try:
    return RUNTIMES[path.suffix](path)
  except UserError as error:
    raise UserError(f"{path}: {error}") from error


def inference(path: str | os.PathLike) -> Callable[[], Any]:
  """Returns a call that runs a file on random inputs, on one thread.

  Raises:
    UserError: see `load`.
  """
  return load(path).inference()
