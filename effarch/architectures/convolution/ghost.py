"""Ghost convolution: half of the channels are filtered copies of the others.

GhostNet (arXiv:1911.11907): an ordinary convolution makes some channels, and
cheap filters of each make the rest. `GhostBottleneck` expands and projects by
two of them, with depthwise strides and squeeze and excitation between.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `N` parts, `L` places of the filters; `P = F / N`, rounded
up, channels by the convolution, and `G = (N - 1) P` by the filters, of which
the last are dropped where all are more than `F`.
Parameters: `K C P + 2 P + L G + 2 G`. MACs an output place: `K C P + L G`.
The bottleneck's are those of its two, and what its docstring says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.conv_norm import ConvNorm
from effarch.architectures.convolution.same_shape import keeps_shape
from effarch.architectures.convolution.squeeze_excite import SqueezeExcite
from effarch.architectures.convolution.window import Sizes


class GhostConv(nnx.Module):
  """A convolution, and filters of what it makes.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: of the convolution, two sizes.
    strides: steps of the convolution from one output to the next.
    parts: `N`; of so many parts one is made by the convolution.
    filter_size: of the filters, two sizes.
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
    kernel_size: Sequence[int] = (1, 1),
    *,
    strides: Sizes = 1,
    parts: int = 2,
    filter_size: Sequence[int] = (3, 3),
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if not 2 <= parts <= out_features:
      raise ValueError(
        f"parts: {parts} is not from 2 to {out_features}, the outputs"
      )
    common = {
      "activation": activation,
      "dtype": dtype,
      "param_dtype": param_dtype,
      "rngs": rngs,
    }
    made = -(-out_features // parts)
    self.primary = ConvNorm(
      in_features, made, kernel_size, strides=strides, **common
    )
    self.cheap = ConvNorm(
      made, (parts - 1) * made, filter_size, groups=made, **common
    )
    self.out_features = out_features

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    made = self.primary(x)
    both = jnp.concatenate([made, self.cheap(made)], axis=-1)
    return both[..., : self.out_features]


class GhostBottleneck(nnx.Module):
  """Expands and projects by ghost convolutions.

  Beside those of `GhostConv(C, D)` and `GhostConv(D, F)`, parameters and MACs
  an output place: with strides, `K D + 2 D` and `K D`; where the shape changes,
  of the shortcut, `K C + 2 C + C F + 2 F` and `K C + C F`; of squeeze and
  excitation, see there.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: of the filters that take strides, two sizes.
    strides: steps from one output to the next.
    expansion: hidden channels for each input channel; `D` is rounded.
    squeezed_features: units of squeeze and excitation; 0 for none.
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
    expansion: float = 2.0,
    squeezed_features: int = 0,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    hidden = round(expansion * in_features)
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}

    def filters(features: int) -> ConvNorm:
      return ConvNorm(
        *(features, features, kernel_size),
        strides=strides,
        groups=features,
        activation="identity",
        **common,
      )

    self.expand = GhostConv(in_features, hidden, **common)
    same_places = keeps_shape(1, 1, strides)
    self.depthwise = nnx.data(None if same_places else filters(hidden))
    self.excite = nnx.data(
      SqueezeExcite(hidden, squeezed_features, gate="hard_sigmoid", **common)
      if squeezed_features
      else None
    )
    self.project = GhostConv(
      hidden, out_features, activation="identity", **common
    )
    changes = not keeps_shape(in_features, out_features, strides)
    shortcut = []
    if changes:
      mix = ConvNorm(
        in_features, out_features, (1, 1), activation="identity", **common
      )
      shortcut = [filters(in_features), mix]
    self.shortcut = nnx.List(shortcut)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    out = self.expand(x)
    if self.depthwise is not None:
      out = self.depthwise(out)
    if self.excite is not None:
      out = self.excite(out)
    out = self.project(out)
    for layer in self.shortcut:
      x = layer(x)
    return x + out
