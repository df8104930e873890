"""Attention with random Fourier features of queries and keys of length one.

Random feature attention (arXiv:2103.02143), without its gate: the products of
`phi(x) = [sin(w x), cos(w x)]` estimate `exp(-|q - k|^2 / 2)`, the softmax's
kernel where lengths are one; `w` are normal, times a trained scale.

Axes and MACs as in `kernel`, with `F = 2 R` features of `R` directions, and
`(T + S) N H R` for the features.
Parameters: `2 C N H + 2 C K H + N H`; the directions are drawn once, not
trained.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.attention.kernel import KernelMixer
from effarch.architectures.attention.mixer import Drawn


def fourier_features(
  x: Float[Array, "B T N H"], directions: Float[Array, "N R H"]
) -> Float[Array, "B T N F"]:
  """Returns features whose products estimate `exp(-|q - k|^2 / 2)`."""
  angles = jnp.einsum("btnh,nrh->btnr", x, directions.astype(x.dtype))
  scale = directions.shape[1] ** -0.5
  return scale * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class RandomFeatureAttention(KernelMixer):
  """An estimate of attention with unit queries and keys, linear in the length.

  Args:
    features: `C`.
    num_heads: `N`.
    num_directions: `R`.
    rngs: draws the initial kernels, and the directions.
    **arguments: those of `HeadMixer`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    num_directions: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    shape = (num_heads, num_directions, self.head_dim)
    self.directions = Drawn(jax.random.normal(rngs.params(), shape))
    dtype = self.out.param_dtype
    self.scale = nnx.Param(jnp.ones((num_heads, 1, self.head_dim), dtype))

  def features(self, x, positions, is_query):
    length = jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)
    return fourier_features(x / length, self.directions[...] * self.scale[...])
