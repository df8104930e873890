"""Toeplitz blocks: all numbers along a diagonal are one.

Layers of small displacement rank begin with these (arXiv:1510.01722). A block
is a corner of a circulant one of twice its size, and is multiplied by as that.
The nearest to a given matrix are the means along its diagonals. Sizes that the
blocks do not divide are padded.

Axes: `B` batch, `I` input and `O` output features, `L` block size;
`N = I / L` and `M = O / L`, rounded up.
Parameters: `N M (2 L - 1)`. MACs of an input: `4 N M (L + 1)`, for products of
complex numbers; the transforms have FLOPs alone. Where the matrix is made first
(see `structure`), `I O`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.circulant import (
  Circulant,
  fourier_product,
)
from effarch.architectures.low_rank.structure import join, pad_to


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toeplitz(Circulant):
  """Toeplitz blocks side by side and above each other.

  Args:
    block_size: `L`.
    params_ratio: see `Structure`.
  """

  block_size: int = 0

  chosen: ClassVar[str] = "block_size"

  def _kernel_size(self):
    return 2 * self.block_size - 1

  def _places(self):
    # The diagonal is first, then come those above, and those below from the
    # last: as the circulant block of twice the size has them.
    place = np.arange(self.block_size)
    return (place - place[:, None]) % self._kernel_size()

  def apply(self, factors, x, o):
    kernels, size = factors["kernels"], self.block_size
    if self._matrix_first(x.shape[1], o, len(x)):
      return x @ self.to_dense(factors, x.shape[1], o)
    x = pad_to(x, len(kernels) * size).reshape(len(x), -1, size)
    nothing = jnp.zeros_like(kernels[..., :1])
    above, below = kernels[..., :size], kernels[..., size:]
    around = jnp.concatenate([above, nothing, below], axis=-1)
    out = fourier_product(x, around, 2 * size)
    return join(out[..., :size], o)

  def _narrow(self, i, o):
    n, m = self.blocks(i, o)
    return 4 * n * m * (self.block_size + 1)
