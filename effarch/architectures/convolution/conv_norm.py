"""A convolution, its batch normalization, and an activation.

What most blocks are made of. At inference the normalization is a scale and an
offset of each channel, which the kernel and a bias can take over: folded, the
layer is a convolution with bias (arXiv:1712.05877, section 3.2).

Axes: `B` batch, `*S` one or two spatial axes, `C` input and `F` output
channels, `K` the kernel's places, `G` groups, `*O` output lengths.
Parameters: `K C F / G + 2 F`; folded `K C F / G + F`. MACs an output place:
`K C F / G`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.activations import activation
from effarch.architectures.convolution.conv import Conv
from effarch.architectures.convolution.window import Padding, Sizes

_Model = TypeVar("_Model", bound=nnx.Module)


# Of the moving statistics: PyTorch's, with which a hundred steps are enough.
_MOMENTUM = 0.9


def batch_norm(features: int, **arguments: Any) -> nnx.BatchNorm:
  """Returns the normalization that all blocks have.

  Args:
    features: channels.
    **arguments: `dtype`, `param_dtype` and `rngs` of `nnx.BatchNorm`.
  """
  return nnx.BatchNorm(features, momentum=_MOMENTUM, **arguments)


class ConvNorm(nnx.Module):
  """Convolves without bias, normalizes over the batch, and activates.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: one or two sizes.
    strides: steps from one output to the next.
    padding: see `conv`.
    dilation: steps from one tap to the next.
    groups: `G`.
    activation: a key of `ACTIVATIONS`.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernel.

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
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.conv = Conv(
      in_features,
      out_features,
      kernel_size,
      strides=strides,
      padding=padding,
      dilation=dilation,
      groups=groups,
      use_bias=False,
      **common,
    )
    self.norm = nnx.data(batch_norm(out_features, **common))
    self.activation = activation
    self._activate()  # A wrong name is told now.

  def _activate(self):
    return activation(self.activation)

  def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *O F"]:
    x = self.conv(x)
    if self.norm is not None:
      x = self.norm(x)
    return self._activate()(x)

  def fold(self) -> None:
    """Turns the normalization into the convolution's kernel and bias."""
    if self.norm is not None:
      fold_norm(self.conv, self.norm)
      self.norm = None


def folded(
  conv: Conv, norm: nnx.BatchNorm
) -> tuple[Float[Array, "*K"], Float[Array, " F"]]:
  """Returns kernel and bias of the convolution that does what both do.

  Args:
    conv: with or without bias.
    norm: what follows, with its moving statistics.
  """
  copy = nnx.clone(conv)
  fold_norm(copy, norm)
  assert copy.bias is not None
  return copy.kernel[...], copy.bias[...]


def fold_norm(conv: Any, norm: nnx.BatchNorm) -> None:
  """Changes a convolution to one that does what both do.

  Args:
    conv: with or without bias; any layer with `scale_outputs`.
    norm: what follows, with its moving statistics.
  """
  scale = jax.lax.rsqrt(norm.var[...] + norm.epsilon)
  if norm.scale is not None:
    scale *= norm.scale[...]
  bias = 0 if conv.bias is None else conv.bias[...]
  bias = (bias - norm.mean[...]) * scale
  if norm.bias is not None:
    bias += norm.bias[...]
  conv.scale_outputs(scale)
  conv.bias = nnx.Param(bias.astype(conv.kernel.dtype))


def fold(model: _Model) -> _Model:
  """Returns a copy of any model in which all that folds is folded.

  Its outputs are those of the model in evaluation mode.
  """
  copy = nnx.clone(model)
  for _, module in nnx.iter_modules(copy):
    merge = getattr(module, "fold", None)
    if merge is not None:
      merge()
  return copy
