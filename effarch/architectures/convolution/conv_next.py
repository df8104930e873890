"""ConvNeXt's block: a large filter of each channel, then a perceptron.

ConvNeXt (arXiv:2201.03545): a depthwise convolution, layer normalization, two
1x1 convolutions with an activation between, a learned scale of each channel
that starts near zero, and the residual. Version 2 (arXiv:2301.00808) has no
such scale; between its 1x1 convolutions, channels compete by their global norm.

Axes: `B` batch, `H W` height and width, `C` channels, `K` the kernel's places,
`E` expansion.
Parameters: `K C + C`, `2 C`, `2 E C^2 + E C + C`, and `C` of the scale, or
`2 E C` of version 2. MACs a place: `K C + 2 E C^2`. Folded, there is no scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from jaxtyping import Array, Float

from effarch.architectures.convolution.activations import activation
from effarch.architectures.convolution.conv import Conv
from effarch.architectures.convolution.depthwise import DepthwiseConv
from effarch.architectures.convolution.same_shape import check_same_shape
from effarch.architectures.convolution.window import Sizes

_EPSILON = 1e-6
_FIRST_SCALE = 1e-6


def global_response_norm(
  x: Float[Array, "B H W C"],
  scale: Float[Array, " C"],
  bias: Float[Array, " C"],
) -> Float[Array, "B H W C"]:
  """Returns `x + scale (x n) + bias` for channels of relative norm `n`.

  The norm is over the places of an image, relative to its channels' mean.
  """
  squares = jnp.square(x.astype(jnp.float32)).sum((1, 2), keepdims=True)
  # The root's slope at zero is infinite.
  norm = jnp.sqrt(jnp.maximum(squares, 1e-24))
  relative = norm / (norm.mean(-1, keepdims=True) + _EPSILON)
  return x + scale * (x * relative.astype(x.dtype)) + bias


class GlobalResponseNorm(nnx.Module):
  """`global_response_norm` with its parameters, which start at zero.

  Args:
    features: `C`.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
  """

  def __init__(
    self, features: int, *, dtype: Any = None, param_dtype: Any = jnp.float32
  ):
    self.scale = nnx.Param(jnp.zeros(features, param_dtype))
    self.bias = nnx.Param(jnp.zeros(features, param_dtype))
    self.dtype = dtype

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    return global_response_norm(
      *dtypes.promote_dtype(
        (x, self.scale[...], self.bias[...]), dtype=self.dtype
      )
    )


class ConvNeXtBlock(nnx.Module):
  """Filters each channel, normalizes each place, and mixes the channels.

  Args:
    in_features: `C`.
    out_features: `C` too.
    kernel_size: two sizes.
    strides: 1.
    version: 1 or 2.
    expansion: `E`, hidden channels for each channel.
    activation: a key of `ACTIVATIONS`.
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
    kernel_size: Sequence[int] = (7, 7),
    *,
    strides: Sizes = 1,
    version: int = 1,
    expansion: int = 4,
    activation: str = "gelu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    check_same_shape("ConvNeXtBlock", in_features, out_features, strides)
    if version not in (1, 2):
      raise ValueError(f"version: {version} is neither 1 nor 2")
    own = {"dtype": dtype, "param_dtype": param_dtype}
    common = {**own, "rngs": rngs}
    hidden = expansion * in_features
    self.depthwise = DepthwiseConv(in_features, kernel_size, **common)
    self.norm = nnx.LayerNorm(in_features, epsilon=_EPSILON, **common)
    self.expand = Conv(in_features, hidden, (1, 1), **common)
    self.response = nnx.data(
      GlobalResponseNorm(hidden, **own) if version == 2 else None
    )
    self.project = Conv(hidden, in_features, (1, 1), **common)
    self.scale = nnx.data(
      nnx.Param(jnp.full(in_features, _FIRST_SCALE, param_dtype))
      if version == 1
      else None
    )
    self.activation = activation
    self._activate()  # A wrong name is told now.

  def _activate(self):
    return activation(self.activation)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    out = self._activate()(self.expand(self.norm(self.depthwise(x))))
    if self.response is not None:
      out = self.response(out)
    out = self.project(out)
    if self.scale is not None:
      out *= self.scale[...].astype(out.dtype)
    return x + out

  def fold(self) -> None:
    """Turns the scale into the last convolution's kernel and bias."""
    if self.scale is not None:
      self.project.scale_outputs(self.scale[...])
      self.scale = None
