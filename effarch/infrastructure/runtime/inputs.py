"""Inputs to time a file with."""

from __future__ import annotations

from typing import Any

import numpy as np


def random_inputs(shape: Any, dtype: Any) -> np.ndarray:
  """Returns numbers in [-1, 1), the same at each call."""
  return np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype)
