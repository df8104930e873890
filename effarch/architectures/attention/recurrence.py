"""A memory of products of keys and values that decays, in chunks.

`S_t = a_t S_{t-1} + k_t v_t^T`, `o_t = q_t S_t`, which is causal attention
without a softmax; a chunk sees itself by its products, and all before it by the
memory (arXiv:2006.16236, arXiv:2307.08621, arXiv:2405.21060).

Axes: `B` batch, `T` tokens, `N` heads, `H` key and `D` value size, `L` tokens
a chunk.
MACs: `T L N (H + D) + 2 T N H D`; the last chunk may be shorter.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from effarch.architectures.attention.softmax import scan_chunks

CHUNK = 128


def linear_recurrence(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B T N H"],
  value: Float[Array, "B T N D"],
  log_decay: Float[Array, "B T N"] | None = None,
  state: Float[Array, "B N H D"] | None = None,
) -> tuple[Float[Array, "B T N D"], Float[Array, "B N H D"]]:
  """Returns all outputs, and the memory after the last token.

  Args:
    query: read the memory.
    key: where values are added.
    value: what is added.
    log_decay: logarithms of `a_t`, at most 0; nothing decays if None.
    state: the memory before the first token; empty if None.
  """
  memory = empty_memory(query, value) if state is None else state

  def step(memory, chunk):
    *parts, decay = chunk
    kept = 1.0
    q, k, v = (x.astype(memory.dtype) for x in parts)
    scores = jnp.einsum("tbnh,sbnh->bnts", q, k)
    seen = jnp.tri(len(q), dtype=bool)
    scores = jnp.where(seen, scores, 0)
    if decay is not None:
      total = jnp.cumsum(decay.astype(memory.dtype), axis=0)
      by_head = jnp.moveaxis(total, 0, -1)
      # Of tokens that are not seen it would be above one, without bound.
      between = by_head[..., :, None] - by_head[..., None, :]
      scores = scores * jnp.exp(jnp.where(seen, between, 0))
      q = q * jnp.exp(total)[..., None]
      k = k * jnp.exp(total[-1] - total)[..., None]
      kept = jnp.exp(total[-1])[..., None, None]
    out = jnp.einsum("bnts,sbnd->tbnd", scores, v)
    out = out + jnp.einsum("tbnh,bnhd->tbnd", q, memory)
    return memory * kept + jnp.einsum("tbnh,tbnd->bnhd", k, v), out

  decay = None if log_decay is None else log_decay.swapaxes(0, 1)
  chunks = *(x.swapaxes(0, 1) for x in (query, key, value)), decay
  memory, out = scan_chunks(step, memory, chunks, CHUNK)
  return out.swapaxes(0, 1).astype(value.dtype), memory


def empty_memory(
  key: Float[Array, "B T N H"], value: Float[Array, "B T N D"]
) -> Float[Array, "B N H D"]:
  """Returns the memory before the first token, float32 at least."""
  batch, _, heads, size = key.shape
  dtype = jnp.promote_types(key.dtype, jnp.float32)
  return jnp.zeros((batch, heads, size, value.shape[-1]), dtype)
