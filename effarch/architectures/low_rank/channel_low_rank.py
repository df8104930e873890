"""Low rank over channels: a convolution to few of them, then a `1 x 1`.

arXiv:1505.06798. Of a `1 x 1` kernel both are `1 x 1`. The best for a given
kernel are the leading singular vectors of it as a matrix of `K C` by `F`.

Axes: `*K` the kernel's spatial axes, `C` input and `F` output channels, `R`
rank.
Parameters: `K C R + R F`. MACs an output place: as many.
"""

from __future__ import annotations

import dataclasses
import math

import jax

from effarch.architectures.convolution import conv
from effarch.architectures.low_rank.conv import ConvStructure, convolved
from effarch.architectures.low_rank.structure import leading


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelLowRank(ConvStructure):
  """A convolution to `R` channels, then to `F`.

  Args:
    rank: `R`.
    params_ratio: see `Structure`.
  """

  rank: int = 0

  def draw(self, key, *shape):
    *taps, inputs, outputs = shape
    first, second = jax.random.split(key)
    seen = math.prod(taps) * inputs
    down = jax.random.normal(first, (*taps, inputs, self.rank))
    up = jax.random.normal(second, (self.rank, outputs))
    return {"down": down * seen**-0.5, "up": up * self.rank**-0.5}

  def apply(self, factors, x, over):
    x = convolved(x, factors["down"], over, range(x.ndim - 2))
    return pointwise(x, factors["up"])

  def to_dense(self, factors):
    return factors["down"] @ factors["up"]

  def from_dense(self, weight):
    *taps, inputs, outputs = weight.shape
    down, up = leading(weight.reshape(-1, outputs), self.rank)
    return {"down": down.reshape(*taps, inputs, self.rank), "up": up}

  def params(self, *shape):
    *seen, outputs = shape
    return self.rank * (math.prod(seen) + outputs)

  def macs(self, shape, spatial, over):
    return math.prod(over.out(spatial, shape[:-2])) * self.params(*shape)

  def sizes(self, *shape):
    *seen, outputs = shape
    return range(1, min(math.prod(seen), outputs) + 1)


def pointwise(x, matrix):
  """Returns the `1 x 1` convolution `B *S F` of `B *S C` by `C F`."""
  kernel = matrix.reshape(*(1,) * (x.ndim - 2), *matrix.shape)
  return conv(x, kernel)
