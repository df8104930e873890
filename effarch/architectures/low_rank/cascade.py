"""What ACDC and Fastfood share: diagonals are trained, all between is fixed.

Axes: `B` batch, `I` input and `O` output features, `K` stages, `D` diagonals,
`S` their length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.structure import LinearStructure, pad_to

# From the input's side: fixed `S S` matrices, and the places of diagonals.
Chain = Sequence[np.ndarray | int]

_TURNS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cascade(LinearStructure):
  """A product of diagonals, with permutations and fast transforms between.

  Args:
    stages: `K`.
    seed: draws the permutations, and the signs that a fit begins with.
    params_ratio: see `Structure`.
  """

  stages: int = 0
  seed: int = 0

  chosen: ClassVar[str] = "stages"
  per_stage: ClassVar[int]

  def side(self, i: int, o: int) -> int:
    """Returns `S`."""
    raise NotImplementedError

  def stage(self, x, diagonals, order):
    """Returns one stage of `B S`.

    Args:
      x: its input, in float32 at least.
      diagonals: the stage's own.
      order: a permutation of its own.
    """
    raise NotImplementedError

  def parts(self, side: int, order: np.ndarray) -> Sequence[np.ndarray | None]:
    """Returns a stage's fixed `S S` matrices, and None for each diagonal."""
    raise NotImplementedError

  def _orders(self, side):
    rng = np.random.default_rng(self.seed)
    return [rng.permutation(side) for _ in range(self.stages)]

  def _chain(self, side) -> Chain:
    chain, count = [], 0
    for order in self._orders(side):
      for part in self.parts(side, order):
        chain.append(count if part is None else part)
        count += part is None
    return chain

  def draw(self, key, i, o):
    side, count = self.side(i, o), self.stages * self.per_stage
    signs = jax.random.rademacher(key, (count, side), jnp.float32)
    # Lengths are kept; features of the input that are padded have none.
    return {"diagonals": signs * (side / i) ** (0.5 / count)}

  def apply(self, factors, x, o):
    diagonals = factors["diagonals"]
    side, wide = diagonals.shape[1], jnp.promote_types(x.dtype, jnp.float32)
    out = pad_to(x, side).astype(wide)
    for k, order in enumerate(self._orders(side)):
      own = diagonals[k * self.per_stage : (k + 1) * self.per_stage]
      out = self.stage(out, own.astype(wide), order)
    return out[:, :o].astype(x.dtype)

  def to_dense(self, factors, i, o):
    diagonals = factors["diagonals"]
    side = diagonals.shape[1]
    out = jnp.eye(side, dtype=diagonals.dtype)
    for part in self._chain(side):
      if isinstance(part, int):
        out = out * diagonals[part]
      else:
        out = out @ jnp.asarray(part, out.dtype)
    return out[:i, :o]

  def from_dense(self, weight):
    side = self.side(*weight.shape)
    rng = np.random.default_rng(self.seed + 1)
    start = rng.choice([-1.0, 1.0], (self.stages * self.per_stage, side))
    return {"diagonals": _fit(self._chain(side), start, weight)}

  def params(self, i, o):
    return self.stages * self.per_stage * self.side(i, o)

  def sizes(self, i, o):
    return range(1, max(1, min(i, o) // self.per_stage) + 1)


def _fit(chain: Chain, diagonals: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Returns diagonals for which a chain's product is nearer to a target.

  Alternating least squares: each diagonal in its turn becomes the best beside
  the others, so the error never grows.

  Args:
    chain: each diagonal stands there once.
    diagonals: `D S` to begin with.
    target: `I O`; what the product has beside it does not count.
  """
  diagonals = diagonals.copy()
  i, o = target.shape
  places = [k for k, part in enumerate(chain) if isinstance(part, int)]
  for place in places * _TURNS:
    before = _product(chain[:place], diagonals)[:i]
    after = _product(chain[place + 1 :], diagonals)[:, :o]
    # The whole is `before diag(d) after`, linear in `d`.
    gram = (before.T @ before) * (after @ after.T)
    wanted = np.sum((before.T @ target) * after, axis=1)
    diagonals[chain[place]] = np.linalg.lstsq(gram, wanted, rcond=1e-12)[0]
  return diagonals


def _product(chain: Chain, diagonals: np.ndarray) -> np.ndarray:
  out = np.eye(diagonals.shape[1])
  for part in chain:
    out = out * diagonals[part] if isinstance(part, int) else out @ part
  return out
