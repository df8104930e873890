"""A perceptron along the sequence, the same for all channels.

The token mixing of MLP-Mixer (arXiv:2105.01601). A shorter sequence is filled
up with zeros.

Axes: `B` batch, `T` tokens, `C` channels, `F` hidden units, `M` the greatest
length.
Parameters: `2 M F + F + M`. MACs: `2 M C F`, however short the sequence.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx

from effarch.architectures.attention.mixer import (
  Mixer,
  Supports,
  check_length,
)


class MLPMixer(Mixer):
  """Mixes by two layers along the sequence.

  Args:
    features: `C`, of which no size depends.
    max_length: `M`.
    hidden_features: `F`.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  supports = Supports(causal=False, streaming=False)

  def __init__(
    self,
    features: int,
    max_length: int,
    hidden_features: int,
    *,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.max_length = max_length
    kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.expand = nnx.Linear(max_length, hidden_features, **kinds)
    self.out = nnx.Linear(hidden_features, max_length, **kinds)

  def mix(self, x, context, mask, causal):
    length = x.shape[1]
    check_length(length, self.max_length)
    if mask is not None:
      x = jnp.where(mask[:, :, None], x, 0)
    x = jnp.pad(x, ((0, 0), (0, self.max_length - length), (0, 0)))
    x = self.out(nnx.gelu(self.expand(x.swapaxes(1, 2)))).swapaxes(1, 2)
    return x[:, :length]
