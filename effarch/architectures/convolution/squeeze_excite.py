"""Squeeze and excitation: channels scaled by what the whole image holds.

Squeeze-and-Excitation networks (arXiv:1709.01507): the mean over all places, a
hidden layer of few units, and a gate for each channel.

Axes: `B` batch, `H W` height and width, `C` channels, `R` hidden units.
Parameters: `2 C R + R + C`. MACs an image: `2 C R`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.activations import activation


class SqueezeExcite(nnx.Module):
  """Multiplies each channel by a gate that sees all channels' means.

  Args:
    features: `C`.
    squeezed_features: `R`.
    activation: a key of `ACTIVATIONS`, of the hidden layer.
    gate: a key of `ACTIVATIONS`; `"hard_sigmoid"` in MobileNetV3.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    features: int,
    squeezed_features: int,
    *,
    activation: str = "relu",
    gate: str = "sigmoid",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if squeezed_features < 1:
      raise ValueError(
        f"squeezed_features: {squeezed_features} is not positive"
      )
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.reduce = nnx.Linear(features, squeezed_features, **common)
    self.expand = nnx.Linear(squeezed_features, features, **common)
    self.activation = activation
    self.gate = gate
    self._functions()  # A wrong name is told now.

  def _functions(self):
    return activation(self.activation), activation(self.gate)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    activate, gate = self._functions()
    squeezed = activate(self.reduce(x.mean((1, 2))))
    return x * gate(self.expand(squeezed))[:, None, None]
