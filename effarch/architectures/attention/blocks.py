"""Sequences cut into blocks of tokens, for mechanisms that choose blocks.

Axes: `B` batch, `T` tokens, `N` heads, `H` head size, `Q` blocks, `L` tokens a
block.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def to_blocks(
  x: Float[Array, "B T N H"], block_size: int
) -> Float[Array, "B N Q L H"]:
  """Returns blocks, the last filled up with zeros."""
  batch, length, heads, size = x.shape
  blocks = -(-length // block_size)
  rest = blocks * block_size - length
  x = jnp.pad(x, ((0, 0), (0, rest), (0, 0), (0, 0)))
  x = x.reshape(batch, blocks, block_size, heads, size)
  return x.transpose(0, 3, 1, 2, 4)


def real_tokens(
  mask: Bool[Array, "B T"] | None, batch: int, length: int, block_size: int
) -> Bool[Array, "B Q L"]:
  """Returns which tokens of the blocks are neither filled up nor hidden."""
  if mask is None:
    mask = jnp.ones((batch, length), bool)
  rest = -length % block_size
  return jnp.pad(mask, ((0, 0), (0, rest))).reshape(batch, -1, block_size)


def from_blocks(
  x: Float[Array, "B N Q L H"], length: int
) -> Float[Array, "B T N H"]:
  """Returns the first so many tokens of the blocks."""
  batch, heads, blocks, block_size, size = x.shape
  x = x.transpose(0, 2, 3, 1, 4)
  return x.reshape(batch, blocks * block_size, heads, size)[:, :length]
