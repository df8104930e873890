"""Block diagonal: each part of the outputs sees one part of the inputs.

Sizes that the blocks do not divide are padded.

Axes: `B` batch, `I` input and `O` output features, `N` blocks; `J = I / N` and
`P = O / N`, rounded up.
Parameters: `N J P`. MACs of an input: as many.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from effarch.architectures.low_rank.structure import (
  LinearStructure,
  join,
  part_size,
  split,
  tiles,
)


def multiply_blocks(
  x: Float[Array, "B N J"], blocks: Float[Array, "N J P"]
) -> Float[Array, "B N P"]:
  """Returns each part of `x` times its own block."""
  # On CPUs these moves and a plain batch of products take half as long as the
  # compiler's own way.
  return jnp.matmul(x.swapaxes(0, 1), blocks).swapaxes(0, 1)


def fills(features: int, parts: int) -> bool:
  """Returns whether no part is without features."""
  return (parts - 1) * part_size(features, parts) < features


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockDiagonal(LinearStructure):
  """Blocks from the upper left to the lower right.

  Args:
    blocks: `N`.
    params_ratio: see `Structure`.
  """

  blocks: int = 0

  chosen: ClassVar[str] = "blocks"

  def _shape(self, i, o):
    if self.blocks not in self.sizes(i, o):
      raise ValueError(
        f"blocks: {self.blocks} equal parts of {min(i, o)} features leave one "
        "empty; take fewer"
      )
    return self.blocks, part_size(i, self.blocks), part_size(o, self.blocks)

  def draw(self, key, i, o):
    count, inputs, _ = shape = self._shape(i, o)
    # The last part has fewer inputs, and its outputs no less variance.
    seen = jnp.clip(i - inputs * jnp.arange(count), 1, inputs)
    scale = (seen**-0.5)[:, None, None]
    return {"blocks": jax.random.normal(key, shape) * scale}

  def apply(self, factors, x, o):
    return join(multiply_blocks(split(x, self.blocks), factors["blocks"]), o)

  def to_dense(self, factors, i, o):
    return jax.scipy.linalg.block_diag(*factors["blocks"])[:i, :o]

  def from_dense(self, weight):
    count, *_ = self._shape(*weight.shape)
    place = np.arange(count)
    return {"blocks": tiles(weight, count, count)[place, :, place]}

  def params(self, i, o):
    count, inputs, outputs = self._shape(i, o)
    return count * inputs * outputs

  def macs(self, i, o, batch):
    return batch * self.params(i, o)

  def sizes(self, i, o):
    return [n for n in range(1, min(i, o) + 1) if fills(i, n) and fills(o, n)]
