"""A memory in which a token overwrites what its key had brought back.

DeltaNet (arXiv:2102.11174), in chunks (arXiv:2406.06484):
`S_t = S_{t-1} + b_t k_t (v_t - k_t S_{t-1})^T`; queries and keys are made of
length one after a convolution of 4 tokens and a `silu`.

Axes as in `recurrent`.
Parameters: `5 C N H + H + C N + 12 N H`.
MACs: those of the projections and of the strengths `b`, and
`4 T L N H + 3 T N H^2 + T N (L^2 - 1) / 3` in chunks of `L`, a power of two.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.attention.recurrence import empty_memory
from effarch.architectures.attention.recurrent import RecurrentMixer
from effarch.architectures.attention.softmax import scan_chunks

CHUNK = 64


def delta_rule(
  query: Float[Array, "B T N H"],
  key: Float[Array, "B T N H"],
  value: Float[Array, "B T N D"],
  strength: Float[Array, "B T N"],
  log_decay: Float[Array, "B T N"] | None = None,
  state: Float[Array, "B N H D"] | None = None,
) -> tuple[Float[Array, "B T N D"], Float[Array, "B N H D"]]:
  """Returns `q_t S_t / sqrt(H)`, and the memory after the last token.

  `S_t = R + b_t k_t (v_t - k_t R)^T` with `R = a_t S_{t-1}`.

  Args:
    query: read the memory.
    key: of length one, where values are written.
    value: what is to be read there.
    strength: `b_t` in `[0, 1]`, how much of it is written.
    log_decay: logarithms of `a_t`, at most 0; nothing decays if None.
    state: the memory before the first token; empty if None.
  """
  query = query * query.shape[-1] ** -0.5
  memory = empty_memory(query, value) if state is None else state
  if log_decay is None:
    log_decay = jnp.zeros(strength.shape, memory.dtype)

  def step(memory, chunk):
    q, k, v, strength, decay = (
      jnp.moveaxis(x.astype(memory.dtype), 0, 2) for x in chunk
    )
    size = q.shape[2]
    total = jnp.cumsum(decay, axis=-1)
    between = total[..., :, None] - total[..., None, :]
    seen = jnp.tri(size, dtype=bool)
    faded = jnp.where(seen, jnp.exp(jnp.where(seen, between, 0)), 0)
    # What each token writes depends on what those before it wrote:
    # (1 + tril(b k k^T)) u = b (v - k S).
    overlap = strength[..., None] * faded * (k @ k.mT)
    overlap = overlap * jnp.tri(size, k=-1)
    kept = jnp.exp(total)[..., None]
    wanted = strength[..., None] * (v - (kept * k) @ memory)
    written = unit_lower_inverse(overlap) @ wanted
    out = (faded * (q @ k.mT)) @ written + (kept * q) @ memory
    rest = jnp.exp(total[..., -1:] - total)[..., None]
    memory = memory * kept[..., -1:, :] + (rest * k).mT @ written
    return memory, jnp.moveaxis(out, 2, 0)

  chunks = tuple(
    x.swapaxes(0, 1) for x in (query, key, value, strength, log_decay)
  )
  memory, out = scan_chunks(step, memory, chunks, CHUNK)
  return out.swapaxes(0, 1).astype(value.dtype), memory


def unit_lower_inverse(
  below: Float[Array, "*batch L L"],
) -> Float[Array, "*batch L L"]:
  """Returns the inverse of `1 + below`, which has nothing above its diagonal.

  By halves, `[[P, 0], [R, Q]]` to `[[P', 0], [-Q' R P', Q']]`: products of
  blocks alone, which every platform is fast at.
  """
  length = below.shape[-1]
  full = 1 << (length - 1).bit_length()
  rest = [(0, 0)] * (below.ndim - 2) + [(0, full - length)] * 2
  below = jnp.pad(below, rest)
  found = jnp.ones((*below.shape[:-2], full, 1, 1), below.dtype)
  size = 1
  while size < full:
    number = full // (2 * size)
    cut = below.reshape(*below.shape[:-2], number, 2 * size, number, 2 * size)
    each = jnp.arange(number)
    left = jnp.moveaxis(cut[..., each, size:, each, :size], 0, -3)
    upper, lower = found[..., ::2, :, :], found[..., 1::2, :, :]
    corner = -(lower @ (left @ upper))
    found = jnp.concatenate(
      [
        jnp.concatenate([upper, jnp.zeros_like(upper)], axis=-1),
        jnp.concatenate([corner, lower], axis=-1),
      ],
      axis=-2,
    )
    size *= 2
  return found[..., 0, :length, :length]


def unit(x: Float[Array, "*batch H"]) -> Float[Array, "*batch H"]:
  """Returns vectors of length one; the zero vector stays."""
  return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)


class DeltaNet(RecurrentMixer):
  """A memory that is corrected, not only added to.

  Args:
    features: `C`.
    num_heads: `N`.
    rngs: draws the initial kernels.
    **arguments: those of `HeadMixer`.
  """

  _kernel_size = 4

  def __init__(
    self, features: int, num_heads: int, *, rngs: nnx.Rngs, **arguments: Any
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    self.strength = nnx.Linear(
      *(features, num_heads),
      use_bias=False,
      dtype=self.dtype,
      param_dtype=self.out.param_dtype,
      rngs=rngs,
    )

  def log_decay(self, x: Float[Array, "B T C"]) -> Float[Array, "B T N"] | None:
    """Returns how the memory decays at each token: not at all."""
    return None

  def recur(self, query, key, value, x, mask, memory):
    strength = nnx.sigmoid(self.strength(x))
    log_decay = self.log_decay(x)
    if mask is not None:
      strength = jnp.where(mask[:, :, None], strength, 0)
      if log_decay is not None:
        log_decay = jnp.where(mask[:, :, None], log_decay, 0)
    return delta_rule(
      unit(query), unit(key), value, strength, log_decay, memory
    )
