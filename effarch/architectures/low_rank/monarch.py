"""Monarch: two block-diagonal matrices with a transposition between.

arXiv:2204.00595, for any sizes, and with blocks of any rank: cut into tiles,
`N` by `N`, the matrix has tiles of rank `R`, and all such matrices are Monarch.
So the best for a given one is the best of each tile. Sizes that the blocks do
not divide are padded.

Axes: `B` batch, `I` input and `O` output features, `N` blocks, `R` rank;
`J = I / N` and `P = O / N`, rounded up.
Parameters: `N^2 R (J + P)`. MACs of an input: as many.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from effarch.architectures.low_rank.block_diagonal import multiply_blocks
from effarch.architectures.low_rank.structure import (
  LinearStructure,
  join,
  leading,
  part_size,
  split,
  tiles,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monarch(LinearStructure):
  """Tiles of low rank.

  Args:
    rank: `R`; the paper's is 1, with as many blocks as the root of `I`.
    blocks: `N`.
    params_ratio: see `Structure`.

  Raises:
    ValueError: an argument is out of its range.
  """

  rank: int = 0
  blocks: int = 4

  def __post_init__(self):
    super().__post_init__()
    if self.blocks < 1:
      raise ValueError(f"blocks: {self.blocks} is not positive")

  def draw(self, key, i, o):
    first, second = jax.random.split(key)
    count, rank = self.blocks, self.rank
    inputs, outputs = part_size(i, count), part_size(o, count)
    down = jax.random.normal(first, (count, inputs, count * rank))
    up = jax.random.normal(second, (count, count * rank, outputs))
    return {
      "down": down * inputs**-0.5,
      "up": up * (inputs / (i * rank)) ** 0.5,
    }

  def apply(self, factors, x, o):
    count, rank = self.blocks, self.rank
    out = multiply_blocks(split(x, count), factors["down"])
    out = out.reshape(-1, count, count, rank).swapaxes(1, 2)
    out = out.reshape(-1, count, count * rank)
    return join(multiply_blocks(out, factors["up"]), o)

  def to_dense(self, factors, i, o):
    count = self.blocks
    down = factors["down"].reshape(count, -1, count, self.rank)
    up = factors["up"].reshape(count, count, self.rank, -1)
    whole = jax.numpy.einsum("njmr,mnrp->njmp", down, up)
    return whole.reshape(count * down.shape[1], -1)[:i, :o]

  def from_dense(self, weight):
    count = self.blocks
    parts = tiles(weight, count, count).swapaxes(1, 2)
    down, up = leading(parts, self.rank)
    # From `N M J R` and `N M R P` to what `apply` multiplies by.
    down = np.moveaxis(down, 1, 2).reshape(count, down.shape[2], -1)
    up = up.swapaxes(0, 1).reshape(count, -1, up.shape[3])
    return {"down": down, "up": up}

  def params(self, i, o):
    ends = part_size(i, self.blocks) + part_size(o, self.blocks)
    return self.blocks**2 * self.rank * ends

  def macs(self, i, o, batch):
    return batch * self.params(i, o)

  def sizes(self, i, o):
    return range(
      1, min(part_size(i, self.blocks), part_size(o, self.blocks)) + 1
    )
