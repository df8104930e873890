"""Canonical polyadic (CP): a kernel is a sum of products of vectors.

arXiv:1412.6553: a `1 x 1` convolution to `R` channels, a filter of each along
every spatial axis, and a `1 x 1` from them. A given kernel's factors begin with
the leading singular vectors of its taps and are found by turns, each the best
beside the others (alternating least squares).

Axes: `*K` the kernel's spatial axes, `C` input and `F` output channels, `R`
rank.
Parameters: `R (C + sum K + F)`. MACs: `R C` an input place, `R K` for each axis
a place of the axes done and those to come, and `R F` an output place.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.low_rank.channel_low_rank import pointwise
from effarch.architectures.low_rank.conv import ConvStructure, along, convolved

_TURNS = 100
_LETTERS = "klcf"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CP(ConvStructure):
  """A sum of `R` products of vectors, one for each axis of the kernel.

  Args:
    rank: `R`.
    params_ratio: see `Structure`.
  """

  rank: int = 0

  def draw(self, key, *shape):
    *taps, inputs, outputs = shape
    down, up, *keys = jax.random.split(key, 2 + len(taps))
    factors = {
      "down": jax.random.normal(down, (inputs, self.rank)) * inputs**-0.5,
      "up": jax.random.normal(up, (self.rank, outputs)) * self.rank**-0.5,
    }
    for axis, (key_k, size) in enumerate(zip(keys, taps, strict=True)):
      taps_k = jax.random.normal(key_k, (size, self.rank))
      factors[f"axis_{axis}"] = taps_k * size**-0.5
    return factors

  def apply(self, factors, x, over):
    x = pointwise(x, factors["down"])
    axes = x.ndim - 2
    for axis in range(axes):
      taps = factors[f"axis_{axis}"]
      shape = [1] * axes
      shape[axis] = len(taps)
      kernel = taps.reshape(*shape, 1, self.rank)
      x = convolved(x, kernel, over, [axis], groups=self.rank)
    return pointwise(x, factors["up"])

  def to_dense(self, factors):
    down, up = factors["down"], factors["up"]
    taps = [factors[f"axis_{axis}"] for axis in range(len(factors) - 2)]
    names = _LETTERS[: len(taps)]
    terms = ",".join(f"{name}r" for name in names)
    return jnp.einsum(f"{terms},cr,rf->{names}cf", *taps, down, up)

  def from_dense(self, weight):
    factors = _fit(weight, self.rank)
    *taps, down, up = factors
    named = {f"axis_{axis}": factor for axis, factor in enumerate(taps)}
    return {"down": down, "up": up.T, **named}

  def params(self, *shape):
    return self.rank * sum(shape)

  def macs(self, shape, spatial, over):
    *taps, inputs, outputs = shape
    total, spatial = math.prod(spatial) * inputs, list(spatial)
    for axis, size in enumerate(taps):
      one = [size if axis == other else 1 for other in range(len(taps))]
      spatial = along(over, [axis]).out(spatial, one)
      total += math.prod(spatial) * size
    return self.rank * (total + math.prod(spatial) * outputs)

  def sizes(self, *shape):
    # With so many terms any kernel is exact, see `_fit`.
    *taps, inputs, outputs = shape
    return range(1, math.prod(taps) * min(inputs, outputs) + 1)


def _fit(tensor: np.ndarray, rank: int) -> list[np.ndarray]:
  """Returns for each axis of a tensor vectors `N R`."""
  factors = _beginning(tensor, rank)
  order = tensor.ndim
  for axis in list(range(order)) * _TURNS:
    others = [k for k in range(order) if k != axis]
    gram = np.ones((rank, rank))
    for k in others:
      gram *= factors[k].T @ factors[k]
    # Sums of the tensor's products with the other axes' vectors.
    terms, names = [tensor], "abcd"[:order]
    spelled = names
    for k in others:
      terms.append(factors[k])
      spelled += f",{names[k]}r"
    wanted = np.einsum(f"{spelled}->{names[axis]}r", *terms, optimize=True)
    factors[axis] = np.linalg.lstsq(gram, wanted.T, rcond=1e-12)[0].T
  # All vectors of a term have one length.
  lengths = [np.linalg.norm(factor, axis=0) for factor in factors]
  common = np.prod(lengths, axis=0) ** (1 / order)
  return [
    factor * common / np.maximum(length, 1e-30)
    for factor, length in zip(factors, lengths, strict=True)
  ]


def _beginning(tensor: np.ndarray, rank: int) -> list[np.ndarray]:
  """Returns the largest singular vectors of all taps, `N R` for each axis."""
  *taps, inputs, outputs = tensor.shape
  slices = tensor.reshape(-1, inputs, outputs)
  left, values, right = np.linalg.svd(slices, full_matrices=False)
  tap, term = np.unravel_index(np.argsort(-values.ravel()), values.shape)
  tap, term = tap[:rank], term[:rank]
  factors = [
    np.eye(size)[:, place]
    for size, place in zip(taps, np.unravel_index(tap, taps), strict=True)
  ]
  down = (left[tap, :, term] * values[tap, term, None]).T
  up = right[tap, term].T
  missing = rank - len(tap)
  return [np.pad(f, ((0, 0), (0, missing))) for f in (*factors, down, up)]
