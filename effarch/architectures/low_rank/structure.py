"""What a structured weight is: fewer numbers, and how they make a matrix.

Axes: `B` batch, `I` input and `O` output features.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn import dtypes
from jaxtyping import Array, Float, Key

# Named parts of a weight.
Factors = Mapping[str, Array]
Fitted = dict[str, np.ndarray]
_Kind = TypeVar("_Kind", bound="Structure")
_Linear = TypeVar("_Linear", bound="LinearStructure")


class Frozen(nnx.Variable):
  """A part of a weight that is not trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Structure:
  """A way to make a dense weight of fewer numbers.

  A subclass names in `chosen` the field that says of how many. Instead of it a
  share of the dense weight's numbers may be given; the most are taken that are
  no more than this, or by one percent.

  Args:
    params_ratio: of the structure's numbers to the dense weight's.

  Raises:
    ValueError: both or neither are given, or one is not positive.
  """

  params_ratio: float = 0.0

  chosen: ClassVar[str] = "rank"
  frozen: ClassVar[tuple[str, ...]] = ()

  def __post_init__(self):
    size, ratio = getattr(self, self.chosen), self.params_ratio
    if bool(size) == bool(ratio):
      raise ValueError(
        f"{self.chosen}: give either it or params_ratio, not "
        f"{'both' if ratio else 'neither'}"
      )
    if size and np.min(size) < 1:
      raise ValueError(f"{self.chosen}: {size} is not positive")
    if ratio < 0:
      raise ValueError(f"params_ratio: {ratio} is not positive")

  def from_dense(self, weight: np.ndarray) -> Fitted:
    """Returns factors whose weight is near a given one.

    Args:
      weight: of the dense weight's shape.
    """
    raise NotImplementedError

  def _chosen(
    self: _Kind,
    shape: Sequence[int],
    sizes: Iterable[int | tuple[int, ...]],
    params: Callable[[Any], int],
  ) -> _Kind:
    """Returns the structure with its size chosen, if a share was given."""
    if not self.params_ratio:
      return self
    dense = math.prod(shape)
    budget = self.params_ratio * dense
    found = {}
    for size in sizes:
      given = {"params_ratio": 0.0, self.chosen: size}
      one = dataclasses.replace(self, **given)
      found[one] = params(one)
    fits = [one for one, count in found.items() if count <= 1.01 * budget]
    if not fits:
      least = min(found.values())
      raise ValueError(
        f"params_ratio: {self.params_ratio} of {' x '.join(map(str, shape))} "
        f"are {budget:.0f} numbers, and {type(self).__name__} has no fewer "
        f"than {least}, a ratio of {least / dense:.2g}"
      )
    return max(fits, key=lambda one: found[one])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearStructure(Structure):
  """A way to make an `I x O` matrix of fewer numbers.

  Args:
    params_ratio: see `Structure`.
  """

  # Beside a given weight nothing can be drawn anew.
  adapts: ClassVar[bool] = False
  # For inference the matrix is better.
  folds: ClassVar[bool] = False

  def draw(self, key: Key[Array, ""], i: int, o: int) -> dict[str, Array]:
    """Returns factors at random, whose matrix has elements of variance `1/I`.

    Args:
      key: draws.
      i: `I`.
      o: `O`.
    """
    raise NotImplementedError

  def apply(
    self, factors: Factors, x: Float[Array, "B I"], o: int
  ) -> Float[Array, "B O"]:
    """Returns the product of `x` and the matrix.

    Args:
      factors: of one type with `x`.
      x: the inputs.
      o: `O`.
    """
    raise NotImplementedError

  def to_dense(self, factors: Factors, i: int, o: int) -> Float[Array, "I O"]:
    """Returns the matrix.

    Args:
      factors: that make it.
      i: `I`.
      o: `O`.
    """
    raise NotImplementedError

  def params(self, i: int, o: int) -> int:
    """Returns how many numbers are trained."""
    raise NotImplementedError

  def macs(self, i: int, o: int, batch: int) -> int:
    """Returns the multiply-accumulates of `apply` to so many inputs."""
    raise NotImplementedError

  def sizes(self, i: int, o: int) -> Iterable[int]:
    """Returns what the chosen field may be."""
    return range(1, min(i, o) + 1)

  def fitted(self: _Linear, i: int, o: int) -> _Linear:
    """Returns the structure with its size chosen, if a share was given.

    Raises:
      ValueError: the share is of fewer numbers than the structure has.
    """
    sizes = self.sizes(i, o)
    return self._chosen((i, o), sizes, lambda one: one.params(i, o))


def matrix_first(
  i: int, o: int, batch: int, *, narrow: int, making: int
) -> bool:
  """Returns whether making the matrix first takes less than to do without.

  On CPUs a MAC of many small products takes about four times as long as one of
  a large product.

  Args:
    i: `I`.
    o: `O`.
    batch: inputs.
    narrow: MACs of the small products.
    making: MACs, or elements, of making the matrix.
  """
  return batch * i * o + 4 * making < 4 * narrow


def near_root(features: int, root: int) -> int:
  """Returns a size near the root of so many features, that divides them.

  Or, where none within a factor of two does, the one that is nearest to it.

  Args:
    features: of which parts are made.
    root: 2 for the square root, 3 for the cubic one, ...
  """
  exact = features ** (1 / root)

  def order(size: int) -> tuple[int, float]:
    distance = round(abs(math.log(size / exact)), 9)  # Equals are equal.
    return size * part_size(features, size), distance

  return min(range(math.ceil(exact / 2), math.floor(exact * 2) + 1), key=order)


def part_size(features: int, parts: int) -> int:
  """Returns the length of each of so many equal parts, the last one padded."""
  return -(-features // parts)


def split(x: Float[Array, "B I"], parts: int) -> Float[Array, "B P J"]:
  """Returns equal parts of the features, zeros behind the last."""
  size = part_size(x.shape[-1], parts)
  return pad_to(x, parts * size).reshape(*x.shape[:-1], parts, size)


def join(x: Float[Array, "B P J"], features: int) -> Float[Array, "B O"]:
  """Returns parts as so many features; what is behind them is left out."""
  return x.reshape(len(x), -1)[:, :features]


def pad_to(x: Float[Array, "*B I"], features: int) -> Float[Array, "*B J"]:
  """Returns `x` with zeros behind its last axis, up to so many features."""
  missing = features - x.shape[-1]
  if not missing:
    return x
  return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])


def padded(weight: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Returns a matrix with zeros below and to the right."""
  i, o = weight.shape
  return np.pad(weight, ((0, rows - i), (0, columns - o)))


def tiles(weight: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Returns a matrix `I O` as equal tiles `N J M P`, zeros behind the last.

  Args:
    weight: the matrix.
    rows: `N`, tiles above each other.
    columns: `M`, tiles side by side.
  """
  i, o = weight.shape
  inputs, outputs = part_size(i, rows), part_size(o, columns)
  whole = padded(weight, rows * inputs, columns * outputs)
  return whole.reshape(rows, inputs, columns, outputs)


def leading(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the two factors nearest a matrix, of equal norms.

  The Eckart-Young theorem: the leading singular vectors, each times the square
  root of its singular value; zeros where the rank is more than there are.

  Args:
    matrix: `*B I O`.
    rank: `R`.

  Returns:
    `*B I R` and `*B R O`.
  """
  left, values, right = np.linalg.svd(matrix, full_matrices=False)
  root = np.sqrt(values[..., :rank])
  left = left[..., :rank] * root[..., None, :]
  right = root[..., None] * right[..., :rank, :]
  missing = rank - root.shape[-1]
  if missing > 0:
    axes = [(0, 0)] * (matrix.ndim - 1)
    left = np.pad(left, [*axes, (0, missing)])
    right = np.pad(right, [*axes[:-1], (0, missing), (0, 0)])
  return left, right


def variables(factors: Factors | Fitted, frozen: tuple[str, ...], dtype: Any):
  """Returns factors as parts of a module.

  Args:
    factors: by name.
    frozen: those that are not trained.
    dtype: of those with fractions.
  """
  found = {}
  for name, factor in factors.items():
    factor = jnp.asarray(factor)
    if jnp.issubdtype(factor.dtype, jnp.floating):
      factor = factor.astype(dtype)
    found[name] = Frozen(factor) if name in frozen else nnx.Param(factor)
  return nnx.Dict(found)


def promoted(x: Array, factors: nnx.Dict, bias: nnx.Param | None, dtype: Any):
  """Returns inputs, factors and bias in the type that is computed in.

  Args:
    x: the inputs.
    factors: a module's; whole numbers stay so.
    bias: a module's.
    dtype: of the computation; what all promote to if `None`.
  """
  values = {name: factor[...] for name, factor in factors.items()}
  real = [k for k, v in values.items() if jnp.issubdtype(v.dtype, jnp.floating)]
  bias_value = None if bias is None else bias[...]
  x, bias_value, *cast = dtypes.promote_dtype(
    (x, bias_value, *(values[name] for name in real)), dtype=dtype
  )
  return x, {**values, **dict(zip(real, cast, strict=True))}, bias_value
