"""Fastfood: diagonals between Hadamard transforms, all of them trained.

The adaptive form (Deep fried convnets, arXiv:1412.7149) of Fastfood's random
one (Le, Sarlos and Smola, ICML 2013): a stage multiplies by a diagonal,
transforms, permutes, multiplies by another, transforms again, and multiplies by
a third. Sizes that are no power of two are padded. To a given matrix the
diagonals are fitted by turns.

Axes: `B` batch, `I` input and `O` output features, `K` stages, `S` the power of
two that the larger of `I` and `O` is padded to.
Parameters: `3 K S`. MACs of an input: `2 K S` times the sum of the sizes of up
to 32 that `S` is the product of.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float

from effarch.architectures.low_rank.cascade import Cascade

_MOST = 32


def hadamard_transform(x: Float[Array, "B S"]) -> Float[Array, "B S"]:
  """Returns each row's Walsh-Hadamard transform, which keeps its length.

  A matrix product for each of the sizes whose product is `S`, of up to 32.

  Args:
    x: of a length that is a power of two.
  """
  batch, side = x.shape
  for size in _sizes(side):
    # The last digit is mixed, and becomes the first.
    mixed = x.reshape(batch, -1, size) @ _matrix(size).astype(x.dtype)
    x = mixed.swapaxes(1, 2)
  return x.reshape(batch, side)


def _sizes(side: int) -> list[int]:
  found = []
  while side > 1:
    found.append(min(side, _MOST))
    side //= found[-1]
  return found


def _matrix(size: int) -> np.ndarray:
  place = np.arange(size)
  ones = np.bitwise_count(place & place[:, None])
  return (-1.0) ** ones / size**0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fastfood(Cascade):
  """A cascade of diagonals between Hadamard transforms.

  Args:
    stages: `K`.
    seed: see `Cascade`.
    params_ratio: see `Structure`.
  """

  per_stage: ClassVar[int] = 3

  def side(self, i, o):
    return 1 << (max(i, o) - 1).bit_length()

  def stage(self, x, diagonals, order):
    x = hadamard_transform(x * diagonals[0])[:, order]
    return hadamard_transform(x * diagonals[1]) * diagonals[2]

  def parts(self, side, order):
    transform = _matrix(side)
    return None, transform, np.eye(side)[:, order], None, transform, None

  def macs(self, i, o, batch):
    side = self.side(i, o)
    return batch * 2 * self.stages * side * sum(_sizes(side))
