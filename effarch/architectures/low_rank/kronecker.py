"""Kronecker products: a matrix is a sum of a few of `A (x) B`.

The nearest to a given one are the leading singular vectors of its elements in
another order (Van Loan and Pitsianis, *Approximation with Kronecker products*,
1993). Sizes that those of `A` do not divide are padded, to a given matrix by
zeros.

Axes: `B` batch, `I` input and `O` output features, `R` products; `A` is `J` by
`P`, and `B` is `K = I / J` by `Q = O / P`, rounded up.
Parameters: `R (J P + K Q)`. MACs: of an input `R J Q (K + P)` or
`R K P (J + Q)`, the lesser; or, where the matrix is made first (see
`structure`), `I O` an input and `R J P K Q` once.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from effarch.architectures.low_rank.structure import (
  LinearStructure,
  leading,
  matrix_first,
  near_root,
  pad_to,
  part_size,
  tiles,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kronecker(LinearStructure):
  """A sum of Kronecker products.

  Args:
    rank: `R`.
    left: `(J, P)`; if None, `A` and `B` are as square as it goes.
    params_ratio: see `Structure`.

  Raises:
    ValueError: an argument is out of its range.
  """

  rank: int = 0
  left: tuple[int, int] | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.left is not None and min(self.left) < 1:
      raise ValueError(f"left: {self.left} are not positive")

  def shape(self, i: int, o: int) -> tuple[int, int, int, int]:
    """Returns `J P K Q`."""
    j, p = self.left or (near_root(i, 2), near_root(o, 2))
    return j, p, part_size(i, j), part_size(o, p)

  def draw(self, key, i, o):
    j, p, k, q = self.shape(i, o)
    first, second = jax.random.split(key)
    return {
      "left": jax.random.normal(first, (self.rank, j, p))
      * (j * self.rank) ** -0.5,
      "right": jax.random.normal(second, (self.rank, k, q)) * (j / i) ** 0.5,
    }

  def apply(self, factors, x, o):
    j, p, k, q = self.shape(x.shape[1], o)
    way, _ = self._cheapest(x.shape[1], o, len(x))
    if way == "dense":
      return x @ self.to_dense(factors, x.shape[1], o)
    left, right = factors["left"], factors["right"]
    x = pad_to(x, j * k).reshape(-1, j, k)
    # One axis is summed over at a time: of two in another order, LiteRT's
    # converter makes wrong products.
    rank = self.rank
    if way == "right":
      out = jnp.einsum("bjk,rkq->bjrq", x, right).reshape(-1, j * rank, q)
      left = left.swapaxes(0, 1).reshape(j * rank, p)
      out = jnp.einsum("bsq,sp->bpq", out, left)
    else:
      out = jnp.einsum("bjk,rjp->bkrp", x, left).reshape(-1, k * rank, p)
      right = right.swapaxes(0, 1).reshape(k * rank, q)
      out = jnp.einsum("bsp,sq->bpq", out, right)
    return out.reshape(-1, p * q)[:, :o]

  def to_dense(self, factors, i, o):
    j, p, k, q = self.shape(i, o)
    whole = jnp.einsum("rjp,rkq->jkpq", factors["left"], factors["right"])
    return whole.reshape(j * k, p * q)[:i, :o]

  def from_dense(self, weight):
    j, p, k, q = self.shape(*weight.shape)
    # Elements of A down, elements of B along.
    moved = tiles(weight, j, p).swapaxes(1, 2).reshape(j * p, k * q)
    left, right = leading(moved, self.rank)
    return {
      "left": left.T.reshape(self.rank, j, p),
      "right": right.reshape(self.rank, k, q),
    }

  def params(self, i, o):
    j, p, k, q = self.shape(i, o)
    return self.rank * (j * p + k * q)

  def macs(self, i, o, batch):
    return self._cheapest(i, o, batch)[1]

  def _cheapest(self, i, o, batch):
    j, p, k, q = self.shape(i, o)
    ways = {
      "right": batch * self.rank * j * q * (k + p),
      "left": batch * self.rank * k * p * (j + q),
    }
    way, narrow = min(ways.items(), key=lambda way: way[1])
    making = self.rank * j * p * k * q
    if matrix_first(i, o, batch, narrow=narrow, making=making):
      return "dense", batch * i * o + making
    return way, narrow

  def sizes(self, i, o):
    j, p, k, q = self.shape(i, o)
    return range(1, min(j * p, k * q) + 1)
