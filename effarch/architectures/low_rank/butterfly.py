"""Butterfly: stages that each mix two halves, as a fast Fourier transform.

arXiv:1903.05895, with blocks in the place of single numbers
(arXiv:2112.00029): a place has bits, and each stage mixes the two places that
differ in one, by blocks of their own. Sizes that are not the block size times a
power of two are padded.

To a given matrix stages are fitted from the first to the last, each with the
best low-rank factors of the tiles that are left (Zheng et al.,
arXiv:2110.01230), which finds every butterfly that is one.

Axes: `B` batch, `I` input and `O` output features, `L` block size, `K` stages,
the least that `2^K L` reaches the larger of `I` and `O`; `D = 2^k` places done
and `X = 2^(K-k-1)` to come in stage `k`.
Parameters: `K 2^(K+1) L^2`. MACs of an input: as many.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.block_diagonal import multiply_blocks
from effarch.architectures.low_rank.structure import (
  LinearStructure,
  leading,
  pad_to,
  padded,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Butterfly(LinearStructure):
  """A product of stages of blocks.

  Args:
    block_size: `L`.
    params_ratio: see `Structure`.
  """

  block_size: int = 0

  chosen: ClassVar[str] = "block_size"

  def stages(self, i: int, o: int) -> int:
    """Returns `K`."""
    blocks = -(-max(i, o) // self.block_size)
    return max(1, (blocks - 1).bit_length())

  def draw(self, key, i, o):
    count, size = self.stages(i, o), 2 * self.block_size
    total = 2 ** (count - 1)
    factors = {}
    for k, key_k in enumerate(jax.random.split(key, count)):
      done = 2**k
      blocks = jax.random.normal(key_k, (done, total // done, size, size))
      # Of length one, so that no product of stages fades or swells.
      length = jnp.linalg.norm(blocks, axis=2, keepdims=True)
      factors[f"stage_{k}"] = blocks / length
    # Features of the input that are padded have no variance.
    scale = (total * size / i) ** 0.5
    return {**factors, "stage_0": factors["stage_0"] * scale}

  def apply(self, factors, x, o):
    batch, size = len(x), 2 * self.block_size
    count = self.stages(x.shape[1], o)
    x = pad_to(x, 2**count * self.block_size)
    for k in range(count):
      # `B D 2 X L` to `B D X 2 L`, and, mixed, to `B D 2 X L` again.
      x = x.reshape(batch, 2**k, 2, -1, self.block_size).swapaxes(2, 3)
      stage = factors[f"stage_{k}"].reshape(-1, size, size)
      x = multiply_blocks(x.reshape(batch, -1, size), stage)
      x = x.reshape(batch, 2**k, -1, 2, self.block_size).swapaxes(2, 3)
    return x.reshape(batch, -1)[:, :o]

  def to_dense(self, factors, i, o):
    count, size = self.stages(i, o), self.block_size
    whole = jnp.eye(2**count * size)
    for k in range(count):
      # Each stage as a matrix `D 2 X L` by `D 2 X L`.
      stage = factors[f"stage_{k}"]
      done, coming = stage.shape[:2]
      blocks = stage.reshape(done, coming, 2, size, 2, size)
      same_done, same_coming = jnp.eye(done), jnp.eye(coming)
      matrix = jnp.einsum(
        "dxuavb,de,xy->duxaevyb", blocks, same_done, same_coming
      )
      whole = whole @ matrix.reshape(whole.shape)
    return whole[:i, :o]

  def from_dense(self, weight):
    count, size = self.stages(*weight.shape), self.block_size
    side = 2**count * size
    rest = padded(weight, side, side)[None]
    factors = {}
    for k in range(count - 1):
      done, coming = 2**k, 2 ** (count - k - 1)
      # For each place done, of the next bit's outputs, and of places to come:
      # a tile from both halves of a block to what is to come.
      parts = rest.reshape(done, 2, coming, size, 2, -1)
      parts = np.moveaxis(parts, (4, 2), (1, 2))
      parts = parts.reshape(done, 2, coming, 2 * size, -1)
      stage, rest = leading(parts, size)
      # `D V X (U A) C` to `D X (U A) (V C)`.
      stage = np.moveaxis(stage, 1, 3)
      factors[f"stage_{k}"] = stage.reshape(done, coming, 2 * size, 2 * size)
      rest = rest.reshape(2 * done, coming * size, -1)
    factors[f"stage_{count - 1}"] = rest[:, None]
    return factors

  def params(self, i, o):
    count = self.stages(i, o)
    return count * 2 ** (count + 1) * self.block_size**2

  def macs(self, i, o, batch):
    return batch * self.params(i, o)

  def sizes(self, i, o):
    return range(1, -(-max(i, o) // 2) + 1)
