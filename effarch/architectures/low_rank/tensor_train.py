"""Tensor train: a matrix is a chain of small cores.

TT layers (arXiv:1509.06569): features are counted by several digits, and core
`k` takes digit `k` of an input to digit `k` of an output, with `R` numbers
handed on from core to core. Sizes that are no product of the digits' are
padded, to a given matrix by zeros. TT-SVD (Oseledets, *Tensor-train
decomposition*, 2011) cuts off one core of a given matrix after the other, which
is the best to a factor of the root of the number of cuts.

Axes: `B` batch, `I` input and `O` output features, `R_k` numbers behind core
`k`, as many as `R` and no more than there is to tell; core `k` is
`R_(k-1) J_k P_k R_k`.
Parameters: `sum_k R_(k-1) J_k P_k R_k`. MACs of an input: for core `k` its
numbers times `P_1 ... P_(k-1) J_(k+1) ... J_d`; or, where the matrix is made
first (see `structure`), `I O` an input, and once for each core `k > 1` its
numbers times `J_1 P_1 ... J_(k-1) P_(k-1)`.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from effarch.architectures.low_rank.structure import (
  LinearStructure,
  leading,
  matrix_first,
  near_root,
  pad_to,
  padded,
  part_size,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorTrain(LinearStructure):
  """A chain of cores.

  Args:
    rank: `R`.
    cores: how many.
    params_ratio: see `Structure`.

  Raises:
    ValueError: an argument is out of its range.
  """

  rank: int = 0
  cores: int = 3

  def __post_init__(self):
    super().__post_init__()
    if self.cores < 1:
      raise ValueError(f"cores: {self.cores} is not positive")

  def shape(self, i: int, o: int) -> list[tuple[int, int, int, int]]:
    """Returns `R_(k-1) J_k P_k R_k` of each core."""
    ends = list(zip(digits(i, self.cores), digits(o, self.cores), strict=True))
    elements = [j * p for j, p in ends]
    ranks = [
      min(self.rank, math.prod(elements[:k]), math.prod(elements[k:]))
      for k in range(self.cores + 1)
    ]
    return [(ranks[k], *end, ranks[k + 1]) for k, end in enumerate(ends)]

  def draw(self, key, i, o):
    shapes = self.shape(i, o)
    factors = {}
    for k, (key_k, shape) in enumerate(
      zip(jax.random.split(key, self.cores), shapes, strict=True)
    ):
      factors[f"core_{k}"] = jax.random.normal(key_k, shape)
    # The chain's elements are sums over all ranks, and `I` of them meet.
    paths = i * math.prod(shape[3] for shape in shapes)
    scale = paths ** (-0.5 / self.cores)
    return {name: core * scale for name, core in factors.items()}

  def apply(self, factors, x, o):
    batch, i = x.shape
    way, _ = self._cheapest(i, o, batch)
    if way == "dense":
      return x @ self.to_dense(factors, i, o)
    shapes = self.shape(i, o)
    x = pad_to(x, math.prod(j for _, j, _, _ in shapes))
    x = x.reshape(batch, 1, 1, -1)
    for k, (rank, j, p, after) in enumerate(shapes):
      done = x.shape[1]
      x = x.reshape(batch, done, rank, j, -1)
      x = jnp.einsum("bdrjn,rjpq->bdpqn", x, factors[f"core_{k}"])
      x = x.reshape(batch, done * p, after, -1)
    return x.reshape(batch, -1)[:, :o]

  def to_dense(self, factors, i, o):
    whole = factors["core_0"][0]
    for k in range(1, self.cores):
      whole = jnp.einsum("jpr,rkqs->jkpqs", whole, factors[f"core_{k}"])
      j, k_, p, q, s = whole.shape
      whole = whole.reshape(j * k_, p * q, s)
    return whole[:i, :o, 0]

  def from_dense(self, weight):
    shapes = self.shape(*weight.shape)
    ins = [j for _, j, _, _ in shapes]
    outs = [p for _, _, p, _ in shapes]
    rest = padded(weight, math.prod(ins), math.prod(outs))
    # Digits of inputs and of outputs by turns.
    turns = [place for k in range(self.cores) for place in (k, self.cores + k)]
    rest = rest.reshape(*ins, *outs).transpose(turns)
    factors = {}
    for k, (rank, j, p, after) in enumerate(shapes[:-1]):
      core, rest = leading(rest.reshape(rank * j * p, -1), after)
      factors[f"core_{k}"] = core.reshape(rank, j, p, after)
    factors[f"core_{self.cores - 1}"] = rest.reshape(shapes[-1])
    return factors

  def params(self, i, o):
    return sum(math.prod(shape) for shape in self.shape(i, o))

  def macs(self, i, o, batch):
    return self._cheapest(i, o, batch)[1]

  def _cheapest(self, i, o, batch):
    shapes = self.shape(i, o)
    ins = [j for _, j, _, _ in shapes]
    outs = [p for _, _, p, _ in shapes]
    chain = making = 0
    for k, shape in enumerate(shapes):
      numbers = math.prod(shape)
      chain += numbers * math.prod(outs[:k]) * math.prod(ins[k + 1 :])
      if k:
        making += numbers * math.prod(ins[:k]) * math.prod(outs[:k])
    narrow = batch * chain
    if matrix_first(i, o, batch, narrow=narrow, making=making):
      return "dense", batch * i * o + making
    return "chain", narrow

  def sizes(self, i, o):
    ends = zip(digits(i, self.cores), digits(o, self.cores), strict=True)
    elements = [j * p for j, p in ends]
    cuts = range(1, self.cores)
    most = [min(math.prod(elements[:k]), math.prod(elements[k:])) for k in cuts]
    return range(1, max(most, default=1) + 1)


def digits(features: int, count: int) -> list[int]:
  """Returns so many near equal sizes whose product is no less than features."""
  found = []
  for left in range(count, 0, -1):
    size = near_root(features, left) if left > 1 else features
    found.append(size)
    features = part_size(features, size)
  return found
