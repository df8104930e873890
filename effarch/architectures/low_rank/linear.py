"""A linear layer whose weight has a structure.

Axes: `*B` batch, `I` input and `O` output features.
Parameters and MACs: the structure's, and `O` parameters with bias.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.low_rank.dense import Dense
from effarch.architectures.low_rank.structure import (
  Factors,
  Fitted,
  LinearStructure,
  promoted,
  variables,
)


class StructuredLinear(nnx.Module):
  """A drop-in for `nnx.Linear`: the same call, of the same initial variance.

  Args:
    in_features: `I`.
    out_features: `O`.
    structure: how the weight is made; its size is chosen if it has a
      `params_ratio`.
    use_bias: adds `O` learned offsets.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    factors: what the weight is made of; drawn if `None`.
    rngs: draws it.

  Raises:
    ValueError: the structure does not fit the sizes.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    structure: LinearStructure,
    *,
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    factors: Factors | Fitted | None = None,
    rngs: nnx.Rngs | None = None,
  ):
    self.in_features = in_features
    self.out_features = out_features
    self.structure = structure.fitted(in_features, out_features)
    if factors is None:
      if rngs is None:
        raise ValueError("rngs: missing, and no factors are given")
      factors = self.structure.draw(rngs.params(), in_features, out_features)
    self.factors = variables(factors, self.structure.frozen, param_dtype)
    self.bias = nnx.data(
      nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else None
    )
    self.dtype = dtype
    self.param_dtype = param_dtype

  @classmethod
  def from_dense(
    cls,
    weight: Float[Array, "I O"] | Float[np.ndarray, "I O"],
    structure: LinearStructure,
    **arguments: Any,
  ) -> StructuredLinear:
    """Returns a layer whose weight is near a dense one.

    Args:
      weight: the dense one.
      structure: how the new one is made.
      **arguments: further ones of the layer's.

    Raises:
      ValueError: the structure does not fit the sizes.
    """
    i, o = weight.shape
    structure = structure.fitted(i, o)
    factors = structure.from_dense(np.asarray(weight, np.float64))
    return cls(i, o, structure, **{"factors": factors, **arguments})

  def to_dense(self) -> Float[Array, "I O"]:
    """Returns the weight as one matrix."""
    factors = {name: factor[...] for name, factor in self.factors.items()}
    return self.structure.to_dense(factors, self.in_features, self.out_features)

  def fold(self) -> None:
    """Turns a weight into one matrix where inference is better off with it.

    Adapters are merged into what they adapt; what is made of Fourier
    transforms has no other form in files without complex numbers.
    """
    if self.structure.folds:
      weight = {"weight": self.to_dense()}
      self.factors = variables(weight, (), self.param_dtype)
      self.structure = Dense()

  @property
  def kernel(self) -> Float[Array, "I O"]:
    """The weight as one matrix, for code that reads a linear layer's."""
    return self.to_dense()

  def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
    x, factors, bias = promoted(x, self.factors, self.bias, self.dtype)
    # One batch axis, which products are faster with.
    flat = x.reshape(math.prod(x.shape[:-1]), self.in_features)
    out = self.structure.apply(factors, flat, self.out_features)
    out = out.reshape(*x.shape[:-1], self.out_features)
    return out if bias is None else out + bias
