"""Dropout and its kin: noise that keeps every mean as it is.

Axes: `B` batch, `H W` height and width, `C` channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from effarch.architectures.convolution import (
  CONVOLUTIONS,
  ConvNeXtBlock,
  FasterNetBlock,
  FusedInvertedResidual,
  GhostBottleneck,
  InvertedResidual,
  LargeKernel,
  ShuffleV1,
  UniversalInvertedResidual,
)
from effarch.architectures.models.blocks import Block
from effarch.architectures.models.resnet import BasicBlock
from effarch.learning.checks import check_within
from effarch.learning.dropping import Dropping

# Blocks that add their input to what they make of it, where shapes allow.
RESIDUAL = (
  BasicBlock,
  Block,
  ConvNeXtBlock,
  FasterNetBlock,
  FusedInvertedResidual,
  GhostBottleneck,
  InvertedResidual,
  LargeKernel,
  ShuffleV1,
  UniversalInvertedResidual,
)
_CONVOLUTIONAL = (*CONVOLUTIONS.values(), BasicBlock, nnx.Conv)

Layer = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Dropout(Dropping):
  """Zeros among the inputs of dense layers (arXiv:1207.0580).

  Args:
    rate: in [0, 1); the share of zeros. 0 changes nothing.
    where: a pattern of the layers' paths, of which `*` is any part.
  """

  rate: float = 0.5
  where: str = "*classifier"

  kinds: ClassVar[tuple[type, ...]] = (nnx.Linear,)

  def run(
    self, layer: Layer, x: Array, rate: float, key: Key[Array, ""]
  ) -> Array:
    return layer(_scaled(x, jax.random.bernoulli(key, 1 - rate, x.shape), rate))


@dataclasses.dataclass(frozen=True)
class SpatialDropout(Dropping):
  """Zeros in whole channels that convolutions give (arXiv:1411.4280).

  Args:
    rate: in [0, 1); the share of channels. 0 changes nothing.
    where: a pattern of the paths of convolutions or of blocks of them, of which
      `*` is any part; the outermost are taken.
  """

  rate: float = 0.1
  where: str = "*"

  kinds: ClassVar[tuple[type, ...]] = _CONVOLUTIONAL

  def run(
    self, layer: Layer, x: Array, rate: float, key: Key[Array, ""]
  ) -> Array:
    y = layer(x)
    shape = y.shape[0], 1, 1, y.shape[-1]
    return _scaled(y, jax.random.bernoulli(key, 1 - rate, shape), rate)


@dataclasses.dataclass(frozen=True)
class DropBlock(Dropping):
  """Zeros in squares of what convolutions give (arXiv:1810.12890).

  Each channel has its own; what is left is scaled up by what is missing.

  Args:
    rate: in [0, 1); about the share of zeros. 0 changes nothing.
    where: a pattern of the paths of convolutions or of blocks of them, of which
      `*` is any part; the outermost are taken.
    block_size: places of a square, each way; as many as there are at most.
  """

  rate: float = 0.1
  where: str = "*"
  block_size: int = 7

  kinds: ClassVar[tuple[type, ...]] = _CONVOLUTIONAL

  def __post_init__(self):
    super().__post_init__()
    check_within("[1, inf)", block_size=self.block_size)

  def run(
    self, layer: Layer, x: Array, rate: float, key: Key[Array, ""]
  ) -> Array:
    y = layer(x)
    kept = outside_blocks(key, y.shape, rate, self.block_size)
    return _scaled(y, kept, 1 - kept.mean())


def outside_blocks(
  key: Key[Array, ""], shape: tuple[int, ...], rate: float, block_size: int
) -> Bool[Array, "B H W C"]:
  """Returns what squares, drawn for each channel, leave.

  Args:
    key: of the random numbers.
    shape: `B H W C`.
    rate: about the share in the squares.
    block_size: of a square, each way.
  """
  batch, height, width, channels = shape
  block = min(block_size, height), min(block_size, width)
  corners = height - block[0] + 1, width - block[1] + 1
  share = rate * height * width
  share /= block[0] * block[1] * corners[0] * corners[1]
  first = jax.random.bernoulli(key, share, (batch, *corners, channels))
  margins = [(0, 0), *((size - 1, size - 1) for size in block), (0, 0)]
  ones = (1, 1, 1, 1)
  dropped = jax.lax.reduce_window(
    first, False, jax.lax.bitwise_or, (1, *block, 1), ones, margins
  )
  return jnp.logical_not(dropped)


@dataclasses.dataclass(frozen=True)
class StochasticDepth(Dropping):
  """Leaves residual blocks out, for each example anew (arXiv:1603.09382).

  A block that is left out gives its input. What the others add to theirs is
  scaled up, so that a block's mean is what it gives in evaluation. Nothing is
  saved: all blocks are computed for the whole batch.

  Args:
    rate: in [0, 1); of the last block. The first of `L` has `rate / L`, and the
      rates between grow evenly. 0 changes nothing.
    where: a pattern of the blocks' paths, of which `*` is any part.
  """

  rate: float = 0.1
  where: str = "*"

  kinds: ClassVar[tuple[type, ...]] = RESIDUAL

  def rates(self, count: int) -> list[float]:
    return [self.rate * (place + 1) / count for place in range(count)]

  def run(
    self, layer: Layer, x: Array, rate: float, key: Key[Array, ""]
  ) -> Array:
    y = layer(x)
    if y.shape != x.shape:
      return y
    shape = len(x), *(1,) * (x.ndim - 1)
    return x + _scaled(y - x, jax.random.bernoulli(key, 1 - rate, shape), rate)


def _scaled(
  x: Float[Array, ...],
  kept: Bool[Array, ...],
  rate: float | Float[Array, ""],
) -> Float[Array, ...]:
  """Returns `x / (1 - rate)` where it is kept, and zeros."""
  # With nothing left there is nothing to scale up.
  left = jnp.maximum(1 - rate, jnp.finfo(jnp.float32).tiny)
  return jnp.where(kept, (x / left).astype(x.dtype), 0)
