"""Attention to a few mixtures of tokens that are the same for all sequences.

Linformer (arXiv:2006.04768), its projections shared by heads: keys and values
of `S` tokens are projected to `R` along the sequence.

Axes as in `full`; `M` is the greatest length, `R` the projected one.
Parameters: `2 C N H + 2 C K H + 2 M R`.
MACs: those of the projections, `2 S R K H` to mix and `2 T R N H` to attend.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx

from effarch.architectures.attention.full import attention
from effarch.architectures.attention.heads import SoftmaxMixer
from effarch.architectures.attention.mixer import Supports, check_length


class LinformerAttention(SoftmaxMixer):
  """Attention of rank `projected_length`.

  Args:
    features: `C`.
    num_heads: `N`.
    max_length: `M`, of the tokens that are seen.
    projected_length: `R`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  supports = Supports(causal=False, cross=True, streaming=False)

  def __init__(
    self,
    features: int,
    num_heads: int,
    max_length: int,
    projected_length: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    draw = nnx.initializers.lecun_normal()
    shape = (max_length, projected_length)
    self.mix_keys = nnx.Param(draw(rngs.params(), shape, self.out.param_dtype))
    self.mix_values = nnx.Param(
      draw(rngs.params(), shape, self.out.param_dtype)
    )

  def attend(self, query, key, value, mask, causal):
    length = key.shape[1]
    check_length(length, self.mix_keys.shape[0])
    if mask is not None:
      key, value = (
        jnp.where(mask[:, :, None, None], x, 0) for x in (key, value)
      )
    key, value = (
      jnp.einsum("bskh,sr->brkh", x, mixing[:length].astype(x.dtype))
      for x, mixing in ((key, self.mix_keys), (value, self.mix_values))
    )
    return attention(query, key, value, **self.dropout())
