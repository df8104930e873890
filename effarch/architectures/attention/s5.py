"""One diagonal state space for all channels, by a parallel scan.

S5 (arXiv:2208.04933), from the normal part of HiPPO-LegS, with zero-order
hold: `h_t = exp(d A) h_{t-1} + (exp(d A) - 1) / A B x_t`,
`y_t = 2 Re(C h_t) + D x_t`; then a `gelu` and a gate of its own.

Axes: `B` batch, `T` tokens, `C` channels, `S` state size, a half of which is
kept, since the other half is conjugate.
Parameters: `3 S / 2 + 2 C S + C + C^2 + C`, and `C S` more if bidirectional.
MACs: `2 T C S + T C^2`, and `T C S` more where it runs in both directions.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Complex

from effarch.architectures.attention.gated_delta import initial_step_sizes
from effarch.architectures.attention.mixer import Mixer, Supports


def diagonal_scan(
  decay: Complex[Array, " S"], inputs: Complex[Array, "B T S"]
) -> Complex[Array, "B T S"]:
  """Returns `h_t = decay h_{t-1} + inputs_t`, all at once."""

  def join(first, second):
    (a, x), (b, y) = first, second
    return a * b, b * x + y

  decays = jnp.broadcast_to(decay, inputs.shape)
  return jax.lax.associative_scan(join, (decays, inputs), axis=1)[1]


def normal_hippo(size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns half of the eigenvalues and -vectors of HiPPO-LegS's normal part.

  `A = -(1/2) 1 - (skew)`: those with positive imaginary part.
  """
  n = np.arange(size)
  root = np.sqrt(n + 0.5)
  skew = np.tril(np.outer(root, root), -1)
  # The skew part is i times a Hermitian matrix, whose eigenvalues are real.
  frequencies, vectors = np.linalg.eigh(-1j * (skew.T - skew))
  half = slice(size - size // 2, None)
  return -0.5 + 1j * frequencies[half], vectors[:, half]


class S5(Mixer):
  """A state space of many inputs and outputs.

  Args:
    features: `C`.
    state_dim: `S`, even.
    bidirectional: a second output of the states, run from the end, lets
      `causal=False` see what comes later.
    dtype: of the computation; the parameters' own if None. The states are
      complex numbers of two float32.
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
    rates, vectors = normal_hippo(state_dim)
    step = nnx.softplus(initial_step_sizes(rngs.params(), (half,)))
    self.log_step = nnx.Param(jnp.log(step).astype(param_dtype))
    self.log_decay = nnx.Param(jnp.log(-np.real(rates)).astype(param_dtype))
    self.frequency = nnx.Param(jnp.asarray(np.imag(rates), param_dtype))

    def turned(key, shape, axes):
      # What acts on states acts on their eigenvectors' shares.
      drawn = jax.random.normal(key, shape) / shape[-1] ** 0.5
      found = jnp.einsum(axes, drawn, vectors)
      return jnp.stack([found.real, found.imag]).astype(param_dtype)

    write = turned(
      rngs.params(), (features, state_dim), "cs,sp->cp"
    ) * jnp.array([1, -1], param_dtype).reshape(2, 1, 1)
    self.write = nnx.Param(write * (state_dim / features) ** 0.5)
    self.read = nnx.Param(
      turned(
        rngs.params(), (1 + bidirectional, features, state_dim), "dcs,sp->dpc"
      )
    )
    self.skip = nnx.Param(jnp.ones(features, param_dtype))
    self.gate = nnx.Linear(
      *(features, features), dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )

  def _system(self):
    """Returns the decay of states, and the real matrices around them."""
    wide = jnp.promote_types(self.log_step.dtype, jnp.float32)
    rates = jax.lax.complex(
      -jnp.exp(self.log_decay[...].astype(wide)),
      self.frequency[...].astype(wide),
    )
    decay = jnp.exp(jnp.exp(self.log_step[...].astype(wide)) * rates)
    write, read = self.write[...].astype(wide), self.read[...].astype(wide)
    return decay, (decay - 1) / rates, jnp.concatenate([*write], 1), read

  def _inputs(self, x, held, write):
    parts = jnp.split(x.astype(write.dtype) @ write, 2, axis=-1)
    return jax.lax.complex(*parts) * held

  def _finish(self, x, states, reads):
    both = [jnp.concatenate([h.real, -h.imag], axis=-1) for h in states]
    read = [jnp.concatenate([*part], axis=0) for part in reads.swapaxes(0, 1)]
    found = [2 * (h @ part) for h, part in zip(both, read, strict=False)]
    found = functools.reduce(jnp.add, found)
    found = found.astype(x.dtype) + self.skip[...].astype(x.dtype) * x
    found = nnx.gelu(found)
    return found * nnx.sigmoid(self.gate(found))

  def mix(self, x, context, mask, causal):
    x = x.astype(self.dtype or jnp.promote_types(x.dtype, self.skip.dtype))
    if mask is not None:
      x = jnp.where(mask[:, :, None], x, 0)
    decay, held, write, reads = self._system()
    inputs = self._inputs(x, held, write)
    states = [diagonal_scan(decay, inputs)]
    if not causal:
      states.append(diagonal_scan(decay, inputs[:, ::-1])[:, ::-1])
    return self._finish(x, states, reads)

  def init_state(self, batch_size: int, max_length: int) -> Array:
    decay, *_ = self._system()
    return jnp.zeros((batch_size, *decay.shape), decay.dtype)

  def step(self, x, state):
    x = x.astype(self.dtype or jnp.promote_types(x.dtype, self.skip.dtype))
    decay, held, write, reads = self._system()
    state = state * decay + self._inputs(x, held, write)
    return self._finish(x, [state], reads), state
