"""Long convolutions with gates between them, whose filters a network makes.

Hyena (arXiv:2302.10866): `z <- x_i (h_i * z)` for each of `O` gates; filters
are a small network of sines over the position, times windows that decay.

Axes: `B` batch, `T` tokens, `C` channels, `O` order, `E` numbers that encode a
position, `F` width of the network, `K` tokens of the short filters.
Parameters: `(O + 1) (C^2 + C + K C) + C^2 + C + E F + F^2 + 2 F + F O C + O C`.
MACs: `T (O + 2) C^2`, and `T (E F + F^2 + F O C)` for the filters, once for all
of the batch; applying them has FLOPs that grow as `T log T`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.attention.long_convolution import long_convolution
from effarch.architectures.attention.mixer import (
  Mixer,
  Supports,
  check_length,
)
from effarch.architectures.attention.short_convolution import ShortConvolution

# The sines' frequency, and how far the windows have decayed at the end of a
# sequence, in the fastest and the slowest channel.
_FREQUENCY, _FAST, _SLOW = 10.0, 0.01 ** (1 / 0.3), 0.01 ** (1 / 1.5)


class Hyena(Mixer):
  """Causal mixing by data-controlled long convolutions.

  A stream keeps all tokens, and reads them all for each new one.

  Args:
    features: `C`.
    max_length: filters are made for so many tokens.
    order: `O`.
    kernel_size: `K`.
    num_frequencies: of the sines and cosines of the position;
      `E = 1 + 2 num_frequencies`.
    filter_features: `F`.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  supports = Supports(bidirectional=False)

  def __init__(
    self,
    features: int,
    max_length: int,
    *,
    order: int = 2,
    kernel_size: int = 3,
    num_frequencies: int = 4,
    filter_features: int = 64,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    self.order, self.max_length, self.dtype = order, max_length, dtype
    self.num_frequencies = num_frequencies
    kinds = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    wide = {**kinds, "dtype": jnp.promote_types(param_dtype, jnp.float32)}
    inner = (order + 1) * features
    self.project = nnx.Linear(features, inner, **kinds)
    self.short = ShortConvolution(inner, kernel_size, **kinds)
    width = filter_features
    self.encode = nnx.Linear(1 + 2 * num_frequencies, width, **wide)
    self.hidden = nnx.Linear(width, width, **wide)
    self.make = nnx.Linear(width, order * features, use_bias=False, **wide)
    self.skip = nnx.Param(jnp.ones((order, features), param_dtype))
    self.out = nnx.Linear(features, features, **kinds)

  def filters(self, length: int) -> Float[Array, "O T C"]:
    """Returns the filters of the first so many distances."""
    check_length(length, self.max_length)
    dtype = self.encode.dtype
    place = jnp.arange(length, dtype=dtype)[:, None] / self.max_length
    angles = 2 * jnp.pi * place * jnp.arange(1, self.num_frequencies + 1)
    code = jnp.concatenate([place, jnp.cos(angles), jnp.sin(angles)], axis=-1)
    found = jnp.sin(_FREQUENCY * self.encode(code))
    found = self.make(jnp.sin(_FREQUENCY * self.hidden(found)))
    found = found.reshape(length, self.order, -1)
    rates = jnp.linspace(jnp.log(_FAST), jnp.log(_SLOW), found.shape[-1])
    return (found * jnp.exp(place * rates)[:, None]).swapaxes(0, 1)

  def mix(self, x, context, mask, causal):
    if mask is not None:
      x = jnp.where(mask[:, :, None], x, 0)
    z, *gates = self._parts(x, None, mask)[0]
    for gate, kernel, skip in zip(
      gates, self.filters(x.shape[1]), self.skip[...], strict=True
    ):
      z = gate * (long_convolution(z, kernel) + skip.astype(z.dtype) * z)
    return self.out(z)

  def _parts(self, x, past, mask=None):
    """Returns what is convolved first and the gates, and the tokens before."""
    projected = self.project(x)
    if mask is not None:
      # The bias of a token of padding is no token either.
      projected = jnp.where(mask[:, :, None], projected, 0)
    found, past = self.short(projected, past)
    if mask is not None:
      found = jnp.where(mask[:, :, None], found, 0)
    return jnp.split(found, self.order + 1, axis=-1), past

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    dtype = self.dtype or self.out.param_dtype
    shape = (self.order, batch_size, max_length, self.out.in_features)
    return {
      "filters": self.filters(max_length),
      "tokens": jnp.zeros(shape, dtype),
      "past": self.short.init_state(batch_size, dtype),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position, tokens = state["position"], state["tokens"]
    (z, *gates), past = self._parts(x[:, None], state["past"])
    z, gates = z[:, 0], [gate[:, 0] for gate in gates]
    # The filter read backwards from the newest token.
    distance = position - jnp.arange(tokens.shape[2])
    kept = []
    for gate, kernel, skip, seen in zip(
      gates, state["filters"], self.skip[...], tokens, strict=True
    ):
      seen = seen.at[:, position].set(z.astype(seen.dtype))
      kept.append(seen)
      kernel = jnp.where(distance[:, None] >= 0, kernel[distance], 0)
      long = (seen.astype(kernel.dtype) * kernel).sum(1).astype(z.dtype)
      z = gate * (long + skip.astype(z.dtype) * z)
    return self.out(z), {
      "filters": state["filters"],
      "tokens": jnp.stack(kept),
      "past": past,
      "position": position + 1,
    }
