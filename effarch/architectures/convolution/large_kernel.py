"""A block around a depthwise convolution with a large kernel.

RepLKNet's (arXiv:2203.06717): 1x1 convolution, depthwise convolution, 1x1
convolution, and a residual. A small kernel beside the large one, each with
its own normalization, makes it learn; `fold` merges the two exactly. The
block's first normalization is left out, for the one behind the first
convolution takes out all that it could add.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
places of the large and `S` of the small kernel.
Parameters: `C^2 + 2 C + (K + S) C + 4 C + C F + 2 F`. MACs: `C^2` an input
place and `(K + S) C + C F` an output place. Folded: `C^2 + C + K C + C + C F +
F`, and no `S C`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv_norm import ConvNorm
from effarch.architectures.convolution.reparameterize import Branches
from effarch.architectures.convolution.same_shape import keeps_shape
from effarch.architectures.convolution.window import Sizes


class LargeKernel(nnx.Module):
  """Sees far, channel by channel, between two mixings of channels.

  Args:
    in_features: `C`.
    out_features: `F`; the input is added to the output where it is `C` and
      strides are 1.
    kernel_size: two odd sizes.
    strides: steps from one output to the next.
    small_kernel_size: two odd sizes, none over those of `kernel_size`.
    activation: a key of `ACTIVATIONS`, after all convolutions but the last.
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
    kernel_size: Sequence[int] = (31, 31),
    *,
    strides: Sizes = 1,
    small_kernel_size: Sequence[int] = (5, 5),
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    pairs = zip(small_kernel_size, kernel_size, strict=True)
    if any(small > large for small, large in pairs):
      raise ValueError(
        f"small_kernel_size: {tuple(small_kernel_size)} is not within "
        f"kernel_size, {tuple(kernel_size)}"
      )
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.before = ConvNorm(
      in_features, in_features, (1, 1), activation=activation, **common
    )
    self.depthwise = Branches(
      *(in_features, in_features, [kernel_size, small_kernel_size]),
      strides=strides,
      groups=in_features,
      passes=False,
      activation=activation,
      **common,
    )
    self.after = ConvNorm(
      in_features, out_features, (1, 1), activation="identity", **common
    )
    self.adds_input = keeps_shape(in_features, out_features, strides)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    out = self.after(self.depthwise(self.before(x)))
    return x + out if self.adds_input else out
