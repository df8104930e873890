"""Causal mixers with a memory of one size, however long the sequence.

Axes: `B` batch, `T` tokens, `N` heads, `H` head size, `C` channels.
Parameters: `5 C N H + H`, with the gate and norm of the output.
MACs of the projections: `5 C N H` a token.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from effarch.architectures.attention.heads import HeadMixer
from effarch.architectures.attention.mixer import Supports
from effarch.architectures.attention.recurrence import empty_memory
from effarch.architectures.attention.short_convolution import ShortConvolution


class RecurrentMixer(HeadMixer):
  """Heads with a memory; what comes out is normed, and gated by `swish`.

  A stream is the same computation, of one token and with the memory before it.

  Args:
    features: `C`.
    num_heads: `N`.
    rngs: draws the initial kernels.
    **arguments: those of `HeadMixer`.
  """

  supports = Supports(bidirectional=False, constant_state=True)
  # How many tokens the convolutions before queries, keys and values see.
  _kernel_size = 1

  def __init__(
    self, features: int, num_heads: int, *, rngs: nnx.Rngs, **arguments: Any
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    kinds = {
      "dtype": self.dtype,
      "param_dtype": self.out.param_dtype,
      "rngs": rngs,
    }
    self.gate = nnx.Linear(
      *(features, num_heads * self.head_dim), use_bias=False, **kinds
    )
    self.norm = nnx.RMSNorm(self.head_dim, **kinds)
    self.convolutions = nnx.data(None)
    if self._kernel_size > 1:
      self.convolutions = nnx.Dict(
        {
          part: ShortConvolution(
            getattr(self, part).out_features, self._kernel_size, **kinds
          )
          for part in self._parts
        }
      )

  def recur(
    self,
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T N H"],
    value: Float[Array, "B T N H"],
    x: Float[Array, "B T C"],
    mask: Bool[Array, "B T"] | None,
    memory: Float[Array, "B N H H"],
  ) -> tuple[Float[Array, "B T N H"], Float[Array, "B N H H"]]:
    """Returns outputs and the memory after; each mechanism has its own.

    Args:
      query: read the memory.
      key: where values are added.
      value: what is added.
      x: the tokens, for gates.
      mask: false for tokens that must leave the memory as it is.
      memory: before the first token.
    """
    raise NotImplementedError

  def mix(self, x, context, mask, causal):
    return self._run(x, mask, self.init_state(len(x), x.shape[1]))[0]

  def step(self, x, state):
    out, state = self._run(x[:, None], None, state)
    return out[:, 0], state

  def _run(self, x, mask, state):
    if mask is not None:
      x = jnp.where(mask[:, :, None], x, 0)
    heads = self.project(x, x)
    if mask is not None:
      # A bias makes no token of padding.
      heads = [jnp.where(mask[:, :, None, None], part, 0) for part in heads]
    past = dict(state["past"])
    if self.convolutions is not None:
      parts = []
      for part, head in zip(self._parts, heads, strict=True):
        flat = head.reshape(*x.shape[:2], -1)
        flat, past[part] = self.convolutions[part](flat, past[part])
        parts.append(nnx.silu(flat).reshape(head.shape))
      heads = tuple(parts)
    # Turned after a convolution, products depend on distances alone.
    query, *shared = self.turn(heads, state["position"])
    key, value = self.for_all_heads(*shared)
    mixed, memory = self.recur(query, key, value, x, mask, state["memory"])
    gate = nnx.silu(self.gate(x)).reshape(mixed.shape)
    out = self.out((self.norm(mixed) * gate).reshape(*x.shape[:2], -1))
    return out, {
      "memory": memory,
      "past": past,
      "position": state["position"] + x.shape[1],
    }

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Any]:
    dtype = self.dtype or self.out.param_dtype
    heads = jnp.zeros((batch_size, 1, self.num_heads, self.head_dim), dtype)
    past = {}
    if self.convolutions is not None:
      past = {
        part: layer.init_state(batch_size, dtype)
        for part, layer in self.convolutions.items()
      }
    return {
      "memory": empty_memory(heads, heads),
      "past": past,
      "position": jnp.zeros((), jnp.int32),
    }
