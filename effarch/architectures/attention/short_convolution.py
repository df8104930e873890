"""A causal depthwise convolution over the last few tokens.

What Mamba (arXiv:2312.00752), Hyena (arXiv:2302.10866) and the delta rules put
before their mixing.

Axes: `B` batch, `T` tokens, `C` channels, `K` tokens that are seen.
Parameters: `K C`. It multiplies and adds `T K C` times, element by element, so
these are FLOPs and no MACs of a product.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def short_convolution(
  x: Float[Array, "B T C"],
  kernel: Float[Array, "K C"],
  past: Float[Array, "B P C"],
) -> Float[Array, "B T C"]:
  """Returns `sum_k kernel[k] x[t - K + 1 + k]`; `past` comes before `x`."""
  length = x.shape[1]
  x = jnp.concatenate([past, x], axis=1)
  shifted = [x[:, k : k + length] * row for k, row in enumerate(kernel)]
  return functools.reduce(jnp.add, shifted)


class ShortConvolution(nnx.Module):
  """A filter of the last `kernel_size` tokens for each channel.

  Args:
    features: `C`.
    kernel_size: `K`.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial kernel.
  """

  def __init__(
    self,
    features: int,
    kernel_size: int,
    *,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    draw = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform", 0, 1)
    shape = kernel_size, features
    self.kernel = nnx.Param(draw(rngs.params(), shape, param_dtype))
    self.dtype = dtype

  def init_state(self, batch_size: int, dtype: Any) -> Float[Array, "B P C"]:
    """Returns the tokens before the first: zeros."""
    size, features = self.kernel.shape
    return jnp.zeros((batch_size, size - 1, features), dtype)

  def __call__(
    self, x: Float[Array, "B T C"], past: Float[Array, "B P C"] | None = None
  ) -> tuple[Float[Array, "B T C"], Float[Array, "B P C"]]:
    """Returns the filtered tokens, and the last ones that the next will see."""
    dtype = self.dtype or jnp.promote_types(x.dtype, self.kernel.dtype)
    x, kernel = x.astype(dtype), self.kernel[...].astype(dtype)
    if past is None:
      past = self.init_state(len(x), dtype)
    past = past.astype(dtype)
    seen = jnp.concatenate([past, x], axis=1)[:, x.shape[1] :]
    return short_convolution(x, kernel, past), seen
