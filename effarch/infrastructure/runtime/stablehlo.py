"""`.stablehlo` files, compiled by XLA for the machine's first device."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import export

from effarch.errors import UserError
from effarch.infrastructure.runtime.inputs import random_inputs


class StableHLOModel:
  """A `.stablehlo` file in its runtime.

  Args:
    file: its content, or its path.

  Raises:
    UserError: it is no such file.
  """

  threads = None  # As many as XLA takes.

  def __init__(self, file: bytes | str | os.PathLike):
    if not isinstance(file, bytes):
      file = pathlib.Path(file).read_bytes()
    try:
      exported = export.deserialize(bytearray(file))
    except Exception as error:  # Whatever a reader meets in other bytes.
      raise UserError(f"JAX can't read it: {error}") from error
    (self._input,) = exported.in_avals
    self._call = jax.jit(exported.call)

  def __call__(self, inputs: np.ndarray) -> np.ndarray:
    """Returns outputs `N K` for inputs `N ...`, one at a time."""
    given = np.asarray(inputs, self._input.dtype)
    return np.concatenate([self._call(example[None]) for example in given])

  def inference(self) -> Callable[[], Any]:
    """Returns a call that runs the file on random inputs, to be timed."""
    given = jax.device_put(random_inputs(self._input.shape, self._input.dtype))
    return lambda: jax.block_until_ready(self._call(given))
