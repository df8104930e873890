"""Exact attention whose keys and values are made of one small latent.

Multi-head latent attention, DeepSeek-V2 (arXiv:2405.04434), with queries that
are not compressed, as in its Lite model. A stream keeps the latent and one
turned key for all heads, `R + P` numbers a token; its queries are brought to
the latent, so that keys and values are never made.

Axes: `B` batch, `T` queries, `S` keys, `N` heads, `H` head size, `R` latent
size, `P` size of the turned part, `C` channels.
Parameters: `C N (H + P) + C (R + P) + R + 2 R N H + N H C`.
MACs: those without the `R` of the norm, for each token, and `T S N (2 H + P)`;
causal as in `full`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from effarch.architectures.attention.full import attention
from effarch.architectures.attention.heads import rotary
from effarch.architectures.attention.mixer import Mixer, Supports
from effarch.architectures.attention.softmax import hide, weigh


class LatentAttention(Mixer):
  """Exact attention over compressed keys and values.

  Args:
    features: `C`.
    num_heads: `N`.
    latent_dim: `R`.
    rotary_dim: `P`, even; positions are in these features alone.
    head_dim: `H`; `C / N` if None.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  supports = Supports(cross=True, growth=2.0)

  def __init__(
    self,
    features: int,
    num_heads: int,
    latent_dim: int,
    rotary_dim: int,
    *,
    head_dim: int | None = None,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if rotary_dim % 2:
      raise ValueError(f"rotary_dim: {rotary_dim} is odd")
    if head_dim is None and features % num_heads:
      raise ValueError(
        f"num_heads: {num_heads} divides not {features} features"
      )
    self.num_heads, self.rotary_dim = num_heads, rotary_dim
    self.latent_dim, self.dtype = latent_dim, dtype
    self.head_dim = features // num_heads if head_dim is None else head_dim
    kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}

    def linear(in_features, out_features):
      return nnx.Linear(in_features, out_features, use_bias=False, **kinds)

    inner = num_heads * self.head_dim
    self.query = linear(features, inner + num_heads * rotary_dim)
    self.compress = linear(features, latent_dim + rotary_dim)
    self.norm = nnx.RMSNorm(latent_dim, **kinds)
    self.key = linear(latent_dim, inner)
    self.value = linear(latent_dim, inner)
    self.out = linear(inner, features)

  def _queries(self, x, start) -> Array:
    """Returns `B T N H+P`, of which `P` are turned."""
    query = self.query(x).reshape(*x.shape[:2], self.num_heads, -1)
    plain, turned = jnp.split(query, [self.head_dim], axis=-1)
    turned = rotary(turned, start + jnp.arange(x.shape[1]))
    return jnp.concatenate([plain, turned], axis=-1)

  def _latents(self, x, start) -> tuple[Array, Array]:
    """Returns latents `B S R` and turned keys `B S P`."""
    latent, turned = jnp.split(self.compress(x), [self.latent_dim], axis=-1)
    places = start + jnp.arange(x.shape[1])
    return self.norm(latent), rotary(turned[:, :, None], places)[:, :, 0]

  def mix(self, x, context, mask, causal):
    latent, turned = self._latents(x if context is None else context, 0)
    heads = (*latent.shape[:2], self.num_heads)
    turned = jnp.broadcast_to(turned[:, :, None], (*heads, self.rotary_dim))
    key = jnp.concatenate([self.key(latent).reshape(*heads, -1), turned], -1)
    value = self.value(latent).reshape(*heads, -1)
    query = self._queries(x, 0)
    out = attention(query, key, value, mask=mask, causal=causal)
    return self.out(out.reshape(*x.shape[:2], -1))

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    dtype = self.dtype or self.out.kernel.dtype
    size = self.latent_dim + self.rotary_dim
    return {
      "latent": jnp.zeros((batch_size, max_length, size), dtype),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position, dtype = state["position"], state["latent"].dtype
    now = jnp.concatenate(self._latents(x[:, None], position), axis=-1)
    seen = state["latent"].at[:, position].set(now[:, 0].astype(dtype))
    plain, turned = jnp.split(
      self._queries(x[:, None], position)[:, 0], [self.head_dim], axis=-1
    )
    shape = (self.latent_dim, self.num_heads, self.head_dim)
    up_key, up_value = (
      layer.kernel[...].astype(dtype).reshape(shape)
      for layer in (self.key, self.value)
    )
    query = jnp.concatenate(
      [jnp.einsum("bnh,rnh->bnr", plain, up_key), turned], axis=-1
    )
    # `weigh` divides by the root of what it is given, not of a key's size.
    size = self.head_dim + self.rotary_dim
    query = query * (query.shape[-1] / size) ** 0.5
    bias = hide(jnp.arange(seen.shape[1]) <= position)[None]
    latent, _ = weigh(query, seen, seen[..., : self.latent_dim], bias)
    mixed = jnp.einsum("bnr,rnh->bnh", latent, up_value)
    out = self.out(mixed.reshape(len(x), -1))
    return out, {"latent": seen, "position": position + 1}
