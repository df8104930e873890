"""Exact attention in which several query heads share one key-value head.

GQA (arXiv:2305.13245): the cache of a stream is `K / N` of the full one.

Axes, parameters and MACs as in `full`, with `K < N`.
"""

from __future__ import annotations

from typing import Any

from flax import nnx

from effarch.architectures.attention.full import FullAttention


class GroupedQueryAttention(FullAttention):
  """Exact attention with `K` key-value heads.

  Args:
    features: `C`.
    num_heads: `N`.
    num_kv_heads: `K`, which divides `N`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `FullAttention`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    num_kv_heads: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(
      features, num_heads, num_kv_heads=num_kv_heads, rngs=rngs, **arguments
    )
