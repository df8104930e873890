"""Attention with positive random features, whose mean is the softmax's.

Performer, FAVOR+ (arXiv:2009.14794): `phi(x) = exp(w x - |x|^2 / 2)`, with
directions `w` that are orthogonal in blocks of `H`.

Axes and MACs as in `kernel`, and `(T + S) N H F` for the features.
Parameters: `2 C N H + 2 C K H`; the directions are drawn once, not trained.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from effarch.architectures.attention.kernel import KernelMixer
from effarch.architectures.attention.mixer import Drawn

# Above it, sums over many tokens could overflow in float32.
_LARGEST = 60.0


def orthogonal_directions(
  key: Array, num_features: int, head_dim: int, dtype: Any = jnp.float32
) -> Float[Array, "F H"]:
  """Returns directions with lengths as those of normal vectors."""
  blocks = -(-num_features // head_dim)
  turn, length = jax.random.split(key)
  square = jax.random.normal(turn, (blocks, head_dim, head_dim), dtype)
  turned, upper = jnp.linalg.qr(square)
  # The factorization fixes signs; those of its diagonal make turns uniform.
  signs = jnp.sign(jnp.diagonal(upper, axis1=-2, axis2=-1))
  rows = (turned * signs[:, None]).reshape(-1, head_dim)[:num_features]
  normal = jax.random.normal(length, (num_features, head_dim), dtype)
  return rows * jnp.linalg.norm(normal, axis=-1, keepdims=True)


def positive_features(
  x: Float[Array, "B T N H"],
  directions: Float[Array, "F H"],
  is_query: bool,
) -> Float[Array, "B T N F"]:
  """Returns features whose products estimate `exp(q k / sqrt(H))`.

  Up to a factor for each query, and one for all keys, which cancel where
  weights are normalised. That of keys is a bound, no maximum, so that it knows
  nothing of what comes later: `w x - |x|^2 / 2 <= |w|^2 / 2`.
  """
  x = x * x.shape[-1] ** -0.25
  directions = directions.astype(x.dtype)
  exponents = jnp.einsum("btnh,fh->btnf", x, directions)
  if is_query:
    largest = lax.stop_gradient(exponents.max(-1, keepdims=True))
    return jnp.exp(exponents - largest)
  exponents = exponents - jnp.square(x).sum(-1, keepdims=True) / 2
  bound = jnp.square(directions).sum(-1).max() / 2
  return jnp.exp(exponents - jnp.maximum(bound - _LARGEST, 0))


class PerformerAttention(KernelMixer):
  """An estimate of exact attention, linear in the length.

  Args:
    features: `C`.
    num_heads: `N`.
    num_features: `F`; the error falls as its square root.
    rngs: draws the initial kernels, and the directions.
    **arguments: those of `HeadMixer`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    num_features: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.directions = Drawn(
      orthogonal_directions(rngs.params(), num_features, self.head_dim)
    )

  def features(self, x, positions, is_query):
    return positive_features(x, self.directions[...], is_query)
