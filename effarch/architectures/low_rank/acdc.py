"""ACDC: diagonals between cosine transforms (arXiv:1511.05946).

A stage permutes, multiplies by a diagonal, transforms, multiplies by another
diagonal, and transforms back. Smaller inputs and outputs are padded. To a given
matrix the diagonals are fitted by turns.

Axes: `B` batch, `I` input and `O` output features, `K` stages, `S` the larger
of `I` and `O`.
Parameters: `2 K S`. MACs: none; the transforms have FLOPs alone.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from effarch.architectures.low_rank.cascade import Cascade


@dataclasses.dataclass(frozen=True, kw_only=True)
class ACDC(Cascade):
  """A cascade of diagonals between cosine transforms.

  Args:
    stages: `K`.
    seed: see `Cascade`.
    params_ratio: see `Structure`.
  """

  per_stage: ClassVar[int] = 2
  folds: ClassVar[bool] = True

  def side(self, i, o):
    return max(i, o)

  def stage(self, x, diagonals, order):
    x = jax.scipy.fft.dct(x[:, order] * diagonals[0], norm="ortho")
    return jax.scipy.fft.idct(x * diagonals[1], norm="ortho")

  def parts(self, side, order):
    place = np.arange(side)
    angles = np.pi / side * (place[:, None] + 0.5) * place
    transform = np.sqrt(np.where(place, 2, 1) / side) * np.cos(angles)
    return np.eye(side)[:, order], None, transform, None, transform.T

  def macs(self, i, o, batch):
    return 0
