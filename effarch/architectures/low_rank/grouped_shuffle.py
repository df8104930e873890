"""Groups and a shuffle: block diagonal, with the groups' outputs interleaved.

ShuffleNet's (arXiv:1707.01083) grouped `1 x 1` convolution, whose outputs the
next layer's groups each see some of.

Axes: `B` batch, `I` input and `O` output features, `N` groups; `J = I / N` and
`P = O / N`, rounded up.
Parameters: `N J P`. MACs of an input: as many.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from effarch.architectures.low_rank.block_diagonal import (
  BlockDiagonal,
  multiply_blocks,
)
from effarch.architectures.low_rank.structure import join, split, tiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupedShuffle(BlockDiagonal):
  """Blocks whose outputs are taken in turn: one of each group, and again.

  Args:
    blocks: `N`, the groups.
    params_ratio: see `Structure`.
  """

  blocks: int = 0

  chosen: ClassVar[str] = "blocks"

  def apply(self, factors, x, o):
    out = multiply_blocks(split(x, self.blocks), factors["blocks"])
    return join(out.swapaxes(1, 2), o)

  def to_dense(self, factors, i, o):
    whole = jax.scipy.linalg.block_diag(*factors["blocks"])
    grouped = whole.reshape(len(whole), self.blocks, -1)
    return grouped.swapaxes(1, 2).reshape(len(whole), -1)[:i, :o]

  def from_dense(self, weight):
    count, _, outputs = self._shape(*weight.shape)
    parts = tiles(weight, count, outputs)
    place = np.arange(count)
    return {"blocks": parts[place, :, :, place]}
