"""A state space model with one decay a head, as a masked product of matrices.

Mamba-2, SSD (arXiv:2405.21060): `S_t = exp(d_t A) S_{t-1} + d_t b_t x_t^T`,
`y_t = c_t S_t + D x_t`; all heads share `b` and `c`.

Axes: `B` batch, `T` tokens, `C` channels, `I = N P` inner channels of `N`
heads, `P` head and `S` state size, `K` tokens that the convolution sees.
Parameters: `C (2 I + 2 S + N) + K (I + 2 S) + 3 N + I + I C`.
MACs: `T C (2 I + 2 S + N) + T I C`, and `T L N (S + P) + 2 T N S P` in chunks
of `L` as in `recurrence`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from effarch.architectures.attention.gated_delta import initial_step_sizes
from effarch.architectures.attention.mixer import Mixer, Supports
from effarch.architectures.attention.recurrence import linear_recurrence
from effarch.architectures.attention.short_convolution import ShortConvolution


class Mamba2(Mixer):
  """A selective state space model.

  Args:
    features: `C`.
    num_heads: `N`, which divides `expansion * C`.
    state_dim: `S`.
    expansion: `I / C`.
    kernel_size: `K`.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  supports = Supports(bidirectional=False, constant_state=True)

  def __init__(
    self,
    features: int,
    num_heads: int,
    state_dim: int,
    *,
    expansion: int = 2,
    kernel_size: int = 4,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    inner = expansion * features
    if inner % num_heads:
      raise ValueError(f"num_heads: {num_heads} divides not {inner} channels")
    self.num_heads, self.state_dim, self.inner = num_heads, state_dim, inner
    self.dtype = dtype
    kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    mixed = inner + 2 * state_dim
    self.project = nnx.Linear(
      features, inner + mixed + num_heads, use_bias=False, **kinds
    )
    self.convolution = ShortConvolution(mixed, kernel_size, **kinds)
    rate = jax.random.uniform(rngs.params(), (num_heads,), param_dtype, 1, 16)
    self.log_rate = nnx.Param(jnp.log(rate))
    self.step_bias = nnx.Param(
      initial_step_sizes(rngs.params(), (num_heads,), param_dtype)
    )
    self.skip = nnx.Param(jnp.ones(num_heads, param_dtype))
    self.norm = nnx.RMSNorm(inner, **kinds)
    self.out = nnx.Linear(inner, features, use_bias=False, **kinds)

  def mix(self, x, context, mask, causal):
    return self._run(x, mask, self.init_state(len(x), x.shape[1]))[0]

  def step(self, x, state):
    out, state = self._run(x[:, None], None, state)
    return out[:, 0], state

  def _run(self, x, mask, state):
    if mask is not None:
      x = jnp.where(mask[:, :, None], x, 0)
    shape, inner = x.shape[:2], self.inner
    gate, mixed, size = jnp.split(
      self.project(x), [inner, 2 * inner + 2 * self.state_dim], axis=-1
    )
    mixed, past = self.convolution(mixed, state["past"])
    values, key, query = jnp.split(
      nnx.silu(mixed), [inner, inner + self.state_dim], axis=-1
    )
    values = values.reshape(*shape, self.num_heads, -1)
    heads = (*shape, self.num_heads, self.state_dim)
    key, query = (
      jnp.broadcast_to(part[:, :, None], heads) for part in (key, query)
    )
    wide = state["memory"].dtype
    size = nnx.softplus(size.astype(wide) + self.step_bias[...])
    if mask is not None:
      size = jnp.where(mask[:, :, None], size, 0)
    log_decay = -jnp.exp(self.log_rate[...].astype(wide)) * size
    read, memory = linear_recurrence(
      *(query, key, values * size[..., None].astype(values.dtype)),
      *(log_decay, state["memory"]),
    )
    skip = self.skip[...].astype(values.dtype)
    read = read + skip[:, None] * values
    out = self.norm(read.reshape(*shape, -1) * nnx.silu(gate))
    return self.out(out), {"memory": memory, "past": past}

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Any]:
    dtype = self.dtype or self.out.param_dtype
    head_dim = self.inner // self.num_heads
    shape = (batch_size, self.num_heads, self.state_dim, head_dim)
    return {
      "memory": jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32)),
      "past": self.convolution.init_state(batch_size, dtype),
    }
