"""Exact attention in which all query heads share one key-value head.

MQA (arXiv:1911.02150): the cache of a stream is `1 / N` of the full one.

Axes, parameters and MACs as in `full`, with `K = 1`.
"""

from __future__ import annotations

from typing import Any

from flax import nnx

from effarch.architectures.attention.full import FullAttention


class MultiQueryAttention(FullAttention):
  """Exact attention with one key-value head.

  Args:
    features: `C`.
    num_heads: `N`.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `FullAttention`.
  """

  def __init__(
    self, features: int, num_heads: int, *, rngs: nnx.Rngs, **arguments: Any
  ):
    super().__init__(
      features, num_heads, num_kv_heads=1, rngs=rngs, **arguments
    )
