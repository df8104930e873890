"""Tucker-2: few channels in, a small convolution, few channels out.

arXiv:1511.06530. A given kernel's factors begin with the leading singular
vectors of its unfoldings (HOSVD), and are found by turns, each the best beside
the other (HOOI; De Lathauwer, De Moor and Vandewalle, *On the best rank-1 and
rank-(R1, ..., RN) approximation of higher-order tensors*, 2000).

Axes: `*K` the kernel's spatial axes, `C` input and `F` output channels, `R S`
channels of the small convolution.
Parameters: `C R + K R S + S F`. MACs: `C R` an input place, and `K R S + S F`
an output place.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np

from effarch.architectures.low_rank.channel_low_rank import pointwise
from effarch.architectures.low_rank.conv import ConvStructure, convolved

_TURNS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tucker(ConvStructure):
  """A `1 x 1` convolution to `R` channels, one to `S`, and a `1 x 1` to `F`.

  Args:
    rank: `(R, S)`; with `params_ratio`, of one ratio to `(C, F)`, rounded up.
    params_ratio: see `Structure`.
  """

  rank: tuple[int, ...] = ()

  def draw(self, key, *shape):
    *taps, inputs, outputs = shape
    first, second = self.rank
    down, core, up = jax.random.split(key, 3)
    seen = math.prod(taps) * first
    return {
      "down": jax.random.normal(down, (inputs, first)) * inputs**-0.5,
      "core": jax.random.normal(core, (*taps, first, second)) * seen**-0.5,
      "up": jax.random.normal(up, (second, outputs)) * second**-0.5,
    }

  def apply(self, factors, x, over):
    x = pointwise(x, factors["down"])
    x = convolved(x, factors["core"], over, range(x.ndim - 2))
    return pointwise(x, factors["up"])

  def to_dense(self, factors):
    return jax.numpy.einsum(
      "cr,...rs,sf->...cf", factors["down"], factors["core"], factors["up"]
    )

  def from_dense(self, weight):
    *taps, inputs, outputs = weight.shape
    whole = weight.reshape(-1, inputs, outputs)
    first, second = self.rank
    # Bases of the channels in and out, `C R` and `F S`.
    up = _basis(whole.transpose(2, 0, 1), second)
    down = np.eye(inputs, first)
    for _ in range(_TURNS):
      down = _basis((whole @ up).transpose(1, 0, 2), first)
      up = _basis((whole.swapaxes(1, 2) @ down).transpose(1, 0, 2), second)
    core = down.T @ whole @ up
    return {
      "down": down,
      "core": core.reshape(*taps, first, second),
      "up": up.T,
    }

  def params(self, *shape):
    *taps, inputs, outputs = shape
    first, second = self.rank
    core = math.prod(taps) * first * second
    return inputs * first + core + second * outputs

  def macs(self, shape, spatial, over):
    *taps, inputs, outputs = shape
    first, second = self.rank
    an_output = math.prod(taps) * first * second + second * outputs
    out = math.prod(over.out(spatial, taps))
    return math.prod(spatial) * inputs * first + out * an_output

  def sizes(self, *shape):
    *_, inputs, outputs = shape
    most = max(inputs, outputs)
    return [
      (-(-step * inputs // most), -(-step * outputs // most))
      for step in range(1, most + 1)
    ]


def _basis(tensor: np.ndarray, rank: int) -> np.ndarray:
  """Returns the leading left singular vectors of the first axis's unfolding.

  Zeros where the rank is more than there are.
  """
  left = np.linalg.svd(tensor.reshape(len(tensor), -1), full_matrices=False)[0]
  missing = rank - left.shape[1]
  return np.pad(left[:, :rank], ((0, 0), (0, max(0, missing))))
