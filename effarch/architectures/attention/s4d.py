"""A diagonal state space of its own for each channel, as a long convolution.

S4D (arXiv:2206.11893), with the S4D-Lin start `A_n = -1/2 + i pi n` and
zero-order hold: `h_t = exp(d A) h_{t-1} + (exp(d A) - 1) / A x_t`,
`y_t = 2 Re(c h_t) + D x_t`; then a `gelu` and a gated linear unit.

Axes: `B` batch, `T` tokens, `C` channels, `S` state size, a half of which is
kept, since the other half is conjugate.
Parameters: `C + C S + C S + C + 2 C^2 + 2 C`, and `C S` more if bidirectional.
MACs: `2 T C^2`, and complex `C S / 2` for each token of the filter, which is
made once for all of the batch; applying it has FLOPs that grow as `T log T`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Complex, Float

from effarch.architectures.attention.gated_delta import initial_step_sizes
from effarch.architectures.attention.long_convolution import long_convolution
from effarch.architectures.attention.mixer import Mixer, Supports


def diagonal_filter(
  exponents: Complex[Array, "C S"], weights: Complex[Array, "C S"], length: int
) -> Float[Array, "T C"]:
  """Returns `2 Re(sum_n weights_n exp(t exponents_n))` for `t < length`.

  By two factors, `exp((i L + j) a) = exp(i L a) exp(j a)`, so that only about
  `2 sqrt(T)` powers are taken.
  """
  size = max(1, round(length**0.5))
  blocks = -(-length // size)
  far = jnp.exp(exponents[..., None] * (size * jnp.arange(blocks)))
  near = jnp.exp(exponents[..., None] * jnp.arange(size))
  # The real part alone: two real products in place of four.
  far = weights[..., None] * far
  parts = jnp.concatenate([far.real, -far.imag], axis=1)
  other = jnp.concatenate([near.real, near.imag], axis=1)
  found = 2 * jnp.einsum("cni,cnj->ijc", parts, other)
  return found.reshape(blocks * size, -1)[:length]


class S4D(Mixer):
  """State spaces by channel, and a gated linear unit that mixes them.

  Args:
    features: `C`.
    state_dim: `S`, even.
    bidirectional: a second output of the states, run from the end, lets
      `causal=False` see what comes later.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial parameters.
  """

  supports = Supports(bidirectional=False, constant_state=True)

  def __init__(
    self,
    features: int,
    state_dim: int = 64,
    *,
    bidirectional: bool = False,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if state_dim % 2:
      raise ValueError(f"state_dim: {state_dim} is odd")
    self.supports = dataclasses.replace(
      type(self).supports, bidirectional=bidirectional
    )
    self.dtype = dtype
    half = state_dim // 2
    step = nnx.softplus(initial_step_sizes(rngs.params(), (features,)))
    self.log_step = nnx.Param(jnp.log(step).astype(param_dtype))
    shape = (features, half)
    self.log_decay = nnx.Param(jnp.full(shape, jnp.log(0.5), param_dtype))
    self.frequency = nnx.Param(
      jnp.broadcast_to(jnp.pi * jnp.arange(half, dtype=param_dtype), shape)
    )
    # Real and imaginary parts; forward, and backward if there is one.
    shape = (1 + bidirectional, 2, features, half)
    drawn = jax.random.normal(rngs.params(), shape, param_dtype)
    self.read = nnx.Param(drawn * 0.5**0.5)
    self.skip = nnx.Param(jnp.ones(features, param_dtype))
    self.out = nnx.Linear(
      *(features, 2 * features),
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )

  def _system(self) -> tuple[Complex[Array, "C S"], Complex[Array, "D C S"]]:
    """Returns the exponents `d A`, and what reads each direction's states."""
    wide = jnp.promote_types(self.log_step.dtype, jnp.float32)
    rates = jax.lax.complex(
      -jnp.exp(self.log_decay[...].astype(wide)),
      self.frequency[...].astype(wide),
    )
    exponents = jnp.exp(self.log_step[...].astype(wide))[:, None] * rates
    read = self.read[...].astype(wide)
    held = (jnp.exp(exponents) - 1) / rates
    return exponents, jax.lax.complex(read[:, 0], read[:, 1]) * held

  def _finish(self, x, found):
    found = found + self.skip[...].astype(x.dtype) * x
    value, gate = jnp.split(self.out(nnx.gelu(found)), 2, axis=-1)
    return value * nnx.sigmoid(gate)

  def mix(self, x, context, mask, causal):
    x = x.astype(self.dtype or jnp.promote_types(x.dtype, self.skip.dtype))
    if mask is not None:
      x = jnp.where(mask[:, :, None], x, 0)
    length = x.shape[1]
    exponents, reads = self._system()
    found = long_convolution(x, diagonal_filter(exponents, reads[0], length))
    if not causal:
      # What comes later, without the token itself, which is in the other.
      kernel = diagonal_filter(exponents, reads[1], length)
      later = jnp.pad(x[:, :0:-1], ((0, 0), (1, 0), (0, 0)))
      found = found + long_convolution(later, kernel)[:, ::-1]
    return self._finish(x, found)

  def init_state(self, batch_size: int, max_length: int) -> Array:
    shape = (batch_size, *self.frequency.shape)
    return jnp.zeros(shape, self._system()[0].dtype)

  def step(self, x, state):
    x = x.astype(self.dtype or jnp.promote_types(x.dtype, self.skip.dtype))
    exponents, reads = self._system()
    state = state * jnp.exp(exponents) + x[:, :, None]
    found = 2 * (state * reads[0]).sum(-1).real
    return self._finish(x, found.astype(x.dtype)), state
