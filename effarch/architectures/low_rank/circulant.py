"""Circulant blocks: each row is the one above, moved on by one.

CirCNN's (arXiv:1708.08917), by Fourier transforms. The nearest to a given
matrix are the means along its wrapped diagonals. Sizes that the blocks do not
divide are padded.

Axes: `B` batch, `I` input and `O` output features, `L` block size;
`N = I / L` and `M = O / L`, rounded up.
Parameters: `N M L`. MACs of an input: `4 N M (L / 2 + 1)`, the half rounded
down, for products of complex numbers; the transforms have FLOPs alone. Where
the matrix is made first (see `structure`), `I O`.
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
  matrix_first,
  pad_to,
  padded,
  part_size,
)


def fourier_product(
  x: Float[Array, "B N L"], kernels: Float[Array, "N M K"], length: int
) -> Float[Array, "B M K2"]:
  """Returns sums of circular convolutions.

  Args:
    x: `N` sequences of up to `length` numbers.
    kernels: from each of them to `M` others.
    length: after which places come again.
  """
  wide = jnp.promote_types(x.dtype, jnp.float32)
  spectrum = jnp.fft.rfft(x.astype(wide), length)
  response = jnp.fft.rfft(kernels.astype(wide), length)
  out = jnp.einsum("bnf,nmf->bmf", spectrum, response)
  return jnp.fft.irfft(out, length).astype(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Circulant(LinearStructure):
  """Circulant blocks side by side and above each other.

  Args:
    block_size: `L`.
    params_ratio: see `Structure`.
  """

  block_size: int = 0

  chosen: ClassVar[str] = "block_size"
  folds: ClassVar[bool] = True

  # A block's numbers; the fast product is as long as there are places.
  def _kernel_size(self):
    return self.block_size

  def _places(self):
    """Returns `L L` places in a kernel."""
    place = np.arange(self.block_size)
    return (place - place[:, None]) % self.block_size

  def blocks(self, i: int, o: int) -> tuple[int, int]:
    """Returns `N` and `M`."""
    return part_size(i, self.block_size), part_size(o, self.block_size)

  def draw(self, key, i, o):
    shape = *self.blocks(i, o), self._kernel_size()
    return {"kernels": jax.random.normal(key, shape) * i**-0.5}

  def apply(self, factors, x, o):
    kernels, size = factors["kernels"], self.block_size
    if self._matrix_first(x.shape[1], o, len(x)):
      return x @ self.to_dense(factors, x.shape[1], o)
    x = pad_to(x, len(kernels) * size).reshape(len(x), -1, size)
    return join(fourier_product(x, kernels, size), o)

  def to_dense(self, factors, i, o):
    whole = factors["kernels"][:, :, self._places()].swapaxes(1, 2)
    n, size, m, _ = whole.shape
    return whole.reshape(n * size, m * size)[:i, :o]

  def from_dense(self, weight):
    n, m = self.blocks(*weight.shape)
    size, places = self.block_size, self._places()
    blocks = padded(weight, n * size, m * size).reshape(n, size, m, size)
    # Padded places say nothing.
    there = padded(np.ones(weight.shape), n * size, m * size)
    counts = there.reshape(n, size, m, size)
    kernels = np.zeros((n, m, self._kernel_size()))
    for place in range(kernels.shape[2]):
      here = (places == place)[None, :, None]
      total = (blocks * here).sum((1, 3))
      kernels[..., place] = total / np.maximum(1, (counts * here).sum((1, 3)))
    return {"kernels": kernels}

  def params(self, i, o):
    n, m = self.blocks(i, o)
    return n * m * self._kernel_size()

  def macs(self, i, o, batch):
    if self._matrix_first(i, o, batch):
      return batch * i * o
    return batch * self._narrow(i, o)

  def _narrow(self, i, o):
    n, m = self.blocks(i, o)
    return 4 * n * m * (self.block_size // 2 + 1)

  def _matrix_first(self, i, o, batch):
    narrow = batch * self._narrow(i, o)
    return matrix_first(i, o, batch, narrow=narrow, making=i * o)

  def sizes(self, i, o):
    return range(1, max(i, o) + 1)
