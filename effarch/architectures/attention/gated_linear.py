"""A memory of which each row decays by a gate that the token sets.

Gated linear attention, GLA (arXiv:2312.06635): gates
`sigmoid(W_2 W_1 x + b)^(1 / 16)` for each feature of the keys.

Axes as in `recurrent`, `R` the rank of the gates.
Parameters: `5 C N H + H + R (C + N H) + N H`.
MACs: those of the projections and of the gates, and
`2 T L N H + 2 T N H^2` in chunks of `L`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.attention.recurrence import empty_memory
from effarch.architectures.attention.recurrent import RecurrentMixer
from effarch.architectures.attention.softmax import scan_chunks

CHUNK = 16
# A chunk divides by products of its decays, which float32 must still hold.
_LEAST_LOG_DECAY = -5.0


def gated_linear_attention(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B T N H"],
  value: Float[Array, "B T N D"],
  log_decay: Float[Array, "B T N H"],
  state: Float[Array, "B N H D"] | None = None,
) -> tuple[Float[Array, "B T N D"], Float[Array, "B N H D"]]:
  """Returns `q_t S_t / sqrt(H)` of `S_t = diag(a_t) S_{t-1} + k_t v_t^T`.

  Args:
    query: read the memory.
    key: where values are added.
    value: what is added.
    log_decay: logarithms of `a_t`, at most 0; what is below -5 counts as -5.
    state: the memory before the first token; empty if None.

  Returns:
    All outputs, and the memory after the last token.
  """
  query = query * query.shape[-1] ** -0.5
  memory = empty_memory(query, value) if state is None else state

  def step(memory, chunk):
    q, k, v, decay = (x.astype(memory.dtype) for x in chunk)
    total = jnp.cumsum(jnp.maximum(decay, _LEAST_LOG_DECAY), axis=0)
    q, shrunk = q * jnp.exp(total), k * jnp.exp(-total)
    scores = jnp.einsum("tbnh,sbnh->bnts", q, shrunk)
    scores = jnp.where(jnp.tri(len(q), dtype=bool), scores, 0)
    out = jnp.einsum("bnts,sbnd->tbnd", scores, v)
    out = out + jnp.einsum("tbnh,bnhd->tbnd", q, memory)
    k = k * jnp.exp(total[-1] - total)
    memory = memory * jnp.exp(total[-1])[..., None]
    return memory + jnp.einsum("tbnh,tbnd->bnhd", k, v), out

  chunks = tuple(x.swapaxes(0, 1) for x in (query, key, value, log_decay))
  memory, out = scan_chunks(step, memory, chunks, CHUNK)
  return out.swapaxes(0, 1).astype(value.dtype), memory


class GatedLinearAttention(RecurrentMixer):
  """Linear attention that forgets by gates.

  Args:
    features: `C`.
    num_heads: `N`.
    gate_rank: `R`.
    rngs: draws the initial kernels.
    **arguments: those of `HeadMixer`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    *,
    gate_rank: int = 16,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    kinds = {
      "dtype": self.dtype,
      "param_dtype": self.out.param_dtype,
      "rngs": rngs,
    }
    self.gate_down = nnx.Linear(features, gate_rank, use_bias=False, **kinds)
    self.gate_up = nnx.Linear(gate_rank, num_heads * self.head_dim, **kinds)

  def recur(self, query, key, value, x, mask, memory):
    opened = self.gate_up(self.gate_down(x)).reshape(query.shape)
    log_decay = nnx.log_sigmoid(opened.astype(memory.dtype)) / 16
    if mask is not None:
      log_decay = jnp.where(mask[:, :, None, None], log_decay, 0)
    return gated_linear_attention(query, key, value, log_decay, memory)
