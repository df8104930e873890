"""A memory that is corrected as in DeltaNet, and decays by a gate.

Gated DeltaNet (arXiv:2412.06464): `a_t = exp(-e^A softplus(w x + d))`, as in
Mamba-2.

Axes as in `recurrent`.
Parameters: `5 C N H + H + 2 C N + 12 N H + 2 N`.
MACs: those of `delta`, and `T C N`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.attention.delta import DeltaNet


def initial_step_sizes(
  key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Float[Array, ...]:
  """Returns what `softplus` takes to sizes log-uniform in [0.001, 0.1]."""
  low, high = jnp.log(1e-3), jnp.log(1e-1)
  size = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
  return jnp.log(jnp.expm1(size))


class GatedDeltaNet(DeltaNet):
  """A memory that is corrected, and forgets.

  Args:
    features: `C`.
    num_heads: `N`.
    rngs: draws the initial kernels.
    **arguments: those of `HeadMixer`.
  """

  def __init__(
    self, features: int, num_heads: int, *, rngs: nnx.Rngs, **arguments: Any
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    dtype = self.out.param_dtype
    self.decay = nnx.Linear(
      *(features, num_heads),
      use_bias=False,
      dtype=self.dtype,
      param_dtype=dtype,
      rngs=rngs,
    )
    rate = jax.random.uniform(rngs.params(), (num_heads,), dtype, 1, 16)
    self.log_rate = nnx.Param(jnp.log(rate))
    self.step_bias = nnx.Param(
      initial_step_sizes(rngs.params(), (num_heads,), dtype)
    )

  def log_decay(self, x):
    """Returns how the memory decays at each token."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    size = nnx.softplus(self.decay(x).astype(wide) + self.step_bias[...])
    return -jnp.exp(self.log_rate[...].astype(wide)) * size
