"""Conditional convolution: each example has a kernel mixed for it.

CondConv (arXiv:1904.04971) mixes experts by a sigmoid of the mean over all
places; dynamic convolution (arXiv:1912.03458) by a softmax, of a layer more.
The mixture is made first, so that its size costs little: an example is
convolved once, by its own kernel. On accelerators that is a convolution in as
many groups as there are examples; on CPUs they are taken one by one. There
is a kernel in memory for each example.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels,
`K` the kernel's places (`*K` its axes), `E` experts, `*O` output lengths.
Parameters: `E K C F + C E + 2 F`; with the softmax, whose hidden layer has
`R = C / 4` units, `C R + R E` for `C E`. MACs: `K C F` an output place, and
for each example `E K C F` of its mixture and `C E`, or `C R + R E`, of its
routing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from jaxtyping import Array, Float

from effarch.architectures.convolution.activations import activation
from effarch.architectures.convolution.conv import conv
from effarch.architectures.convolution.conv_norm import batch_norm
from effarch.architectures.convolution.reparameterize import passing
from effarch.architectures.convolution.window import Sizes, sizes

_REDUCTION = 4


def conditional_conv(
  x: Float[Array, "B H W C"],
  kernels: Float[Array, "E *K C F"],
  weights: Float[Array, "B E"],
  *,
  strides: Sizes = 1,
) -> Float[Array, "B *O F"]:
  """Returns each example convolved by its own mixture of kernels.

  Args:
    x: the inputs.
    kernels: of each expert.
    weights: of each expert in the kernel of each example.
    strides: steps from one output to the next.
  """
  mixed = weights @ kernels.reshape(len(kernels), -1)
  mixed = mixed.reshape(len(x), *kernels.shape[1:])

  def one(example, kernel):
    return conv(example[None], kernel, strides=strides)[0]

  return jax.vmap(one)(x, mixed)


class CondConv(nnx.Module):
  """A convolution by a mixture of kernels, normalization and activation.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: two sizes.
    strides: steps from one output to the next.
    experts: `E`; 8 in CondConv, 4 in dynamic convolution.
    routing: `"sigmoid"`, each weight by itself, or `"softmax"`, weights that
      sum to one.
    temperature: of the softmax. Its paper goes from 30 to 1 in the first
      epochs, so that all experts learn; the attribute may be set.
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
    kernel_size: Sequence[int] = (3, 3),
    *,
    strides: Sizes = 1,
    experts: int = 8,
    routing: str = "sigmoid",
    temperature: float = 1.0,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if experts < 1:
      raise ValueError(f"experts: {experts} is not positive")
    if routing not in ("sigmoid", "softmax"):
      raise ValueError(f"routing: {routing!r} is neither sigmoid nor softmax")
    if temperature <= 0 or (routing == "sigmoid" and temperature != 1):
      raise ValueError(
        f"temperature: {temperature} is not 1 (sigmoid), or positive (softmax)"
      )
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    soft = routing == "softmax"
    hidden = max(1, in_features // _REDUCTION) if soft else in_features
    self.squeeze = nnx.data(
      nnx.Linear(in_features, hidden, use_bias=False, **common)
      if soft
      else None
    )
    self.router = nnx.Linear(hidden, experts, use_bias=False, **common)
    draw = nnx.initializers.lecun_normal(batch_axis=(0,))
    taps = sizes("kernel_size", kernel_size, 2)
    shape = experts, *taps, in_features, out_features
    self.kernels = nnx.Param(draw(rngs.params(), shape, param_dtype))
    self.bias = nnx.data(None)
    self.norm = nnx.data(batch_norm(out_features, **common))
    self.strides = sizes("strides", strides, 2)
    self.routing = routing
    self.temperature = temperature
    self.activation = activation
    self.dtype = dtype
    self._activate()  # A wrong name is told now.

  def _activate(self):
    return activation(self.activation)

  def route(self, x: Float[Array, "B H W C"]) -> Float[Array, "B E"]:
    """Returns the weights of the experts for each example."""
    x = x.mean((1, 2))
    if self.squeeze is None:
      return jax.nn.sigmoid(self.router(x))
    logits = self.router(jax.nn.relu(self.squeeze(x)))
    return jax.nn.softmax(logits / self.temperature)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    x, kernels, weights, bias = dtypes.promote_dtype(
      (
        *(x, self.kernels[...], self.route(x)),
        None if self.bias is None else self.bias[...],
      ),
      dtype=self.dtype,
    )
    x = conditional_conv(x, kernels, weights, strides=self.strides)
    if bias is not None:
      x += bias
    if self.norm is not None:
      x = self.norm(x)
    return self._activate()(x)

  def fold(self) -> None:
    """Turns the normalization into scales of all kernels, and one bias."""
    if self.norm is not None:
      # Each channel by itself: the kernel of what passes is its scale.
      scale, bias = passing(self.norm, groups=self.norm.num_features)
      self.kernels[...] *= scale.reshape(-1)
      self.bias = nnx.Param(bias)
      self.norm = None
