"""Attention through landmarks, the means of segments of the sequence.

Nystromformer (arXiv:2102.03902): `softmax(q k~) pinv(softmax(q~ k~))
softmax(q~ k) v`, the pseudo-inverse by iteration, and a depthwise convolution
of the values beside it.

Axes as in `full`; `M` landmarks, `I` iterations, `W` tokens of the
convolution.
Parameters: `2 C N H + 2 C K H + W N`.
MACs: those of the projections, and
`N (4 T M H + 4 I M^3 + M^2 H + M^2 H)` a sequence; the convolution multiplies
element by element.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from effarch.architectures.attention.heads import SoftmaxMixer
from effarch.architectures.attention.mixer import Supports
from effarch.architectures.attention.softmax import hide, product, weigh


def landmarks(
  x: Float[Array, "B N T H"], seen: Bool[Array, "B T"], number: int
) -> tuple[Float[Array, "B N M H"], Bool[Array, "B M"]]:
  """Returns the means of equal segments, and which of them hold any token."""
  size = -(-x.shape[2] // number)
  rest = size * number - x.shape[2]
  x = jnp.where(seen[:, None, :, None], x, 0)
  x = jnp.pad(x, ((0, 0), (0, 0), (0, rest), (0, 0)))
  seen = jnp.pad(seen, ((0, 0), (0, rest)))
  total = x.reshape(*x.shape[:2], number, size, -1).sum(3)
  count = seen.reshape(len(seen), number, size).sum(-1)
  mean = total / jnp.maximum(count, 1)[:, None, :, None].astype(x.dtype)
  return mean, count > 0


def pseudo_inverse(
  x: Float[Array, "*batch M M"], iterations: int
) -> Float[Array, "*batch M M"]:
  """Returns the pseudo-inverse by the paper's iteration of third order."""
  columns = abs(x).sum(-2).max(-1)[..., None, None]
  rows = abs(x).sum(-1).max(-1)[..., None, None]
  found, one = x.mT / (columns * rows), jnp.eye(x.shape[-1], dtype=x.dtype)
  for _ in range(iterations):
    near = x @ found
    inner = 15 * one - near @ (7 * one - near)
    found = found @ (13 * one - near @ inner) / 4
  return found


class NystromAttention(SoftmaxMixer):
  """Attention of rank `num_landmarks`.

  Args:
    features: `C`.
    num_heads: `N`.
    num_landmarks: `M`; no more than there are tokens are used.
    iterations: `I`, of the pseudo-inverse.
    kernel_size: `W`, odd, of the convolution; None for none.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  supports = Supports(causal=False, streaming=False)

  def __init__(
    self,
    features: int,
    num_heads: int,
    num_landmarks: int,
    *,
    iterations: int = 6,
    kernel_size: int | None = 33,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    if kernel_size is not None and kernel_size % 2 == 0:
      raise ValueError(f"kernel_size: {kernel_size} is even")
    self.num_landmarks, self.iterations = num_landmarks, iterations
    self.kernel = nnx.data(None)
    if kernel_size is not None:
      draw = nnx.initializers.variance_scaling(1.0, "fan_in", "normal", 0, 1)
      shape = (kernel_size, num_heads)
      self.kernel = nnx.Param(draw(rngs.params(), shape, self.out.param_dtype))

  def attend(self, query, key, value, mask, causal):
    batch, length, _, size = query.shape
    key, value = self.for_all_heads(key, value)
    if mask is None:
      mask = jnp.ones((batch, length), bool)
    q, k, v = (x.swapaxes(1, 2) for x in (query, key, value))
    number = min(self.num_landmarks, length)
    few_queries, real = landmarks(q, mask, number)
    few_keys, _ = landmarks(k, mask, number)
    hidden = hide(real)[:, None, None]
    # A landmark of padding alone stands apart: an identity that none reads.
    scores = product(few_queries * size**-0.5, few_keys.mT) + hidden
    kernel = jnp.where(real[:, None, :, None], nnx.softmax(scores), 0)
    apart = jnp.eye(number) * ~real[:, None, :, None]
    inverse = pseudo_inverse(
      kernel + apart.astype(kernel.dtype), self.iterations
    )
    mixed, _ = weigh(few_queries, k, v, hide(mask)[:, None, None])
    mixed = (inverse @ mixed.astype(inverse.dtype)).astype(v.dtype)
    out, _ = weigh(q, few_keys, mixed, hidden, **self.dropout())
    out = out.swapaxes(1, 2)
    if self.kernel is None:
      return out
    value = jnp.where(mask[:, :, None, None], value, 0)
    side = self.kernel.shape[0] // 2
    value = jnp.pad(value, ((0, 0), (side, side), (0, 0), (0, 0)))
    rows = self.kernel[...].astype(value.dtype)[:, :, None]
    return out + sum(
      value[:, place : place + length] * row for place, row in enumerate(rows)
    )
