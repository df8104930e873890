"""MobileOne's block: many branches in training, two convolutions at inference.

MobileOne (arXiv:2206.04040): a depthwise part, of several convolutions, one of
1x1 that scales, and the input, and then a pointwise part, of several 1x1
convolutions and the input. Each branch is normalized by itself; each part is a
sum and an activation. `fold` merges each part exactly.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `N` branches.
Parameters: `N K C + C + 2 (N + 1) C` and `N C F + 2 N F`, and `2 C` more for
each part that the input passes: with strides of 1, and with `F = C`. MACs an
output place: `(N K + 1) C + N C F`. Folded: `K C + C + C F + F` and
`K C + C F`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.reparameterize import Branches
from effarch.architectures.convolution.window import Sizes


class MobileOne(nnx.Module):
  """A separable convolution that learns as many and folds into two.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: two odd sizes, of the depthwise part.
    strides: steps from one output to the next, of the depthwise part.
    branches: `N`; 4 in the paper's smallest model, 1 in the others.
    activation: a key of `ACTIVATIONS`, after each part.
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
    branches: int = 4,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if branches < 1:
      raise ValueError(f"branches: {branches} is not positive")
    common = {
      "activation": activation,
      "dtype": dtype,
      "param_dtype": param_dtype,
      "rngs": rngs,
    }
    self.depthwise = Branches(
      *(in_features, in_features, [kernel_size] * branches + [(1, 1)]),
      strides=strides,
      groups=in_features,
      **common,
    )
    self.pointwise = Branches(
      in_features, out_features, [(1, 1)] * branches, **common
    )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    return self.pointwise(self.depthwise(x))
