"""A memory that decays by a constant of each head.

Retention, RetNet (arXiv:2307.08621): rotary positions, decays
`1 - 2^(-5 - n)`, a norm for each head and a `swish` gate. Values are as large
as keys (the paper's are twice as large).

Axes as in `recurrent`.
Parameters: `5 C N H + H`.
MACs: `5 T C N H + 2 T L N H + 2 T N H^2`, in chunks of `L` as in `recurrence`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.attention.recurrence import linear_recurrence
from effarch.architectures.attention.recurrent import RecurrentMixer


def retention(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B T N H"],
  value: Float[Array, "B T N D"],
  log_decay: Float[Array, "B T N"],
  state: Float[Array, "B N H D"] | None = None,
) -> tuple[Float[Array, "B T N D"], Float[Array, "B N H D"]]:
  """Returns `sum_s a_{s+1} ... a_t (q_t k_s / sqrt(H)) v_s`, and the memory."""
  query = query * query.shape[-1] ** -0.5
  return linear_recurrence(query, key, value, log_decay, state)


class Retention(RecurrentMixer):
  """Retention in several heads, each with its own span.

  Args:
    features: `C`.
    num_heads: `N`.
    positions: `"rotary"`, or `"none"`.
    rngs: draws the initial kernels.
    **arguments: those of `HeadMixer`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    *,
    positions: str = "rotary",
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(
      features, num_heads, positions=positions, rngs=rngs, **arguments
    )

  def recur(self, query, key, value, x, mask, memory):
    log_decay = jnp.log1p(-(2.0 ** (-5 - jnp.arange(self.num_heads))))
    log_decay = jnp.broadcast_to(log_decay, key.shape[:3])
    if mask is not None:
      log_decay = jnp.where(mask[:, :, None], log_decay, 0)
    return retention(query, key, value, log_decay, memory)
