"""Low rank over space: a convolution along columns, then one along rows.

arXiv:1405.3866. The best for a given kernel are the leading singular vectors of
it as a matrix of `K C` by `L F`.

Axes: `H W` height and width, `K L` the kernel's, `C` input and `F` output
channels, `R` rank.
Parameters: `K C R + L R F`. MACs: `K C R` a place of the output's rows and all
columns, and `L R F` an output place.
"""

from __future__ import annotations

import dataclasses
import math

import jax

from effarch.architectures.low_rank.conv import ConvStructure, along, convolved
from effarch.architectures.low_rank.structure import leading


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpatialLowRank(ConvStructure):
  """A `K x 1` convolution to `R` channels, then `1 x L` to `F`.

  Args:
    rank: `R`.
    params_ratio: see `Structure`.
  """

  rank: int = 0

  def draw(self, key, *shape):
    height, width, inputs, outputs = _of_images(shape)
    first, second = jax.random.split(key)
    down = jax.random.normal(first, (height, 1, inputs, self.rank))
    up = jax.random.normal(second, (1, width, self.rank, outputs))
    return {
      "down": down * (height * inputs) ** -0.5,
      "up": up * (width * self.rank) ** -0.5,
    }

  def apply(self, factors, x, over):
    x = convolved(x, factors["down"], over, [0])
    return convolved(x, factors["up"], over, [1])

  def to_dense(self, factors):
    return jax.numpy.einsum(
      "kcr,lrf->klcf", factors["down"][:, 0], factors["up"][0]
    )

  def from_dense(self, weight):
    height, width, inputs, outputs = _of_images(weight.shape)
    matrix = weight.swapaxes(1, 2).reshape(height * inputs, width * outputs)
    down, up = leading(matrix, self.rank)
    up = up.reshape(self.rank, width, outputs).swapaxes(0, 1)
    down = down.reshape(height, 1, inputs, self.rank)
    return {"down": down, "up": up[None]}

  def params(self, *shape):
    height, width, inputs, outputs = _of_images(shape)
    return self.rank * (height * inputs + width * outputs)

  def macs(self, shape, spatial, over):
    height, width, inputs, outputs = shape
    between = along(over, [0]).out(spatial, (height, 1))
    out = over.out(spatial, (height, width))
    first = math.prod(between) * height * inputs
    return self.rank * (first + math.prod(out) * width * outputs)

  def sizes(self, *shape):
    height, width, inputs, outputs = _of_images(shape)
    return range(1, min(height * inputs, width * outputs) + 1)


def _of_images(shape):
  if len(shape) != 4:
    raise ValueError(
      f"structure: a kernel of {len(shape) - 2} spatial axes can't be "
      "separated; take ChannelLowRank"
    )
  return shape
