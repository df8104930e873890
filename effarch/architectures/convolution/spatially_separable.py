"""A convolution along rows, then one along columns.

The Inception networks' (arXiv:1512.00567, section 3.2), each with its own
normalization and activation.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels,
`K L` kernel height and width.
Parameters: `L C F + K F^2 + 4 F`. MACs: `L C F` a place of all rows and the
output's columns, and `K F^2` an output place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv_norm import ConvNorm
from effarch.architectures.convolution.window import Sizes, sizes


class SpatiallySeparable(nnx.Module):
  """A `1 x L` and a `K x 1` convolution for one of `K x L`.

  Args:
    in_features: `C`.
    out_features: `F`, also between the two.
    kernel_size: `(K, L)`.
    strides: steps from one output to the next; the first convolution takes
      those along rows, the second those along columns.
    activation: a key of `ACTIVATIONS`, after both.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int] = (3, 3),
    *,
    strides: Sizes = 1,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    common = {
      "activation": activation,
      "dtype": dtype,
      "param_dtype": param_dtype,
      "rngs": rngs,
    }
    height, width = sizes("kernel_size", kernel_size, 2)
    down, along = sizes("strides", strides, 2)
    self.rows = ConvNorm(
      in_features, out_features, (1, width), strides=(1, along), **common
    )
    self.columns = ConvNorm(
      out_features, out_features, (height, 1), strides=(down, 1), **common
    )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    return self.columns(self.rows(x))
