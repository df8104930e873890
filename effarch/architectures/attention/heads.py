"""Mixers that are made of queries, keys and values in several heads.

Axes: `B` batch, `T` tokens, `S` tokens that are seen, `N` heads, `K` key-value
heads, `H` head size, `C` channels.
Parameters: `2 C N H + 2 C K H`, with biases `N H + 2 K H + C` more.
MACs of the projections: `2 T C N H + 2 S C K H`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from effarch.architectures.attention.mixer import Mixer
from effarch.architectures.attention.softmax import alibi, hide, weigh


def rotary(
  x: Float[Array, "B T N H"], positions: Int[Array, " T"], base: float = 1e4
) -> Float[Array, "B T N H"]:
  """Returns features turned by angles that grow with the position.

  RoFormer (arXiv:2104.09864): the product of two tokens so turned depends on
  their distance alone. Feature `i` is paired with `i + H / 2`.
  """
  half = x.shape[-1] // 2
  speeds = base ** (-jnp.arange(half) / half)
  angles = positions[:, None, None] * speeds
  cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
  first, second = x[..., :half], x[..., half:]
  return jnp.concatenate(
    [first * cos - second * sin, first * sin + second * cos], axis=-1
  )


class HeadMixer(Mixer):
  """Projects tokens to heads, mixes by `attend`, and projects back.

  Args:
    features: `C`.
    num_heads: `N`.
    num_kv_heads: `K`, which divides `N`; `N` if None.
    head_dim: `H`; `C / N` if None.
    use_bias: in the four projections.
    positions: `"none"`, or `"rotary"` for relative ones in queries and keys.
    dtype: of the computation; the parameters' own if None.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  query: nnx.Linear
  key: nnx.Linear
  value: nnx.Linear
  position_kinds = ("none", "rotary")
  # What is projected; a mechanism may do without some.
  _parts = ("query", "key", "value")

  def __init__(
    self,
    features: int,
    num_heads: int,
    *,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    use_bias: bool = False,
    positions: str = "none",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    for name, number in (
      ("num_heads", num_heads),
      ("num_kv_heads", num_kv_heads),
    ):
      if number < 1:
        raise ValueError(f"{name}: {number} is not positive")
    if num_heads % num_kv_heads:
      raise ValueError(f"num_kv_heads: {num_kv_heads} divides not {num_heads}")
    if head_dim is None and features % num_heads:
      raise ValueError(
        f"num_heads: {num_heads} divides not {features} features"
      )
    if positions not in self.position_kinds:
      names = ", ".join(self.position_kinds)
      raise ValueError(f"positions: {positions!r} is none of {names}")
    self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
    self.head_dim = features // num_heads if head_dim is None else head_dim
    if positions == "rotary" and self.head_dim % 2:
      raise ValueError(f"positions: rotary has pairs, not {self.head_dim}")
    self.positions, self.dtype = positions, dtype

    def linear(in_features, out_features):
      return nnx.Linear(
        *(in_features, out_features),
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=param_dtype,
        rngs=rngs,
      )

    for part in self._parts:
      heads = num_heads if part == "query" else num_kv_heads
      setattr(self, part, linear(features, heads * self.head_dim))
    self.out = linear(num_heads * self.head_dim, features)

  def project(
    self,
    x: Float[Array, "B T C"],
    context: Float[Array, "B S C"],
  ) -> tuple[Array, ...]:
    """Returns queries `B T N H`, keys and values `B S K H`, if it has them.

    Args:
      x: tokens that see.
      context: tokens that are seen.
    """
    heads = []
    for part in self._parts:
      tokens = x if part == "query" else context
      head = getattr(self, part)(tokens)
      head = head.reshape(*tokens.shape[:2], -1, self.head_dim)
      heads.append(head)
    return tuple(heads)

  def turn(
    self, heads: Sequence[Array], start: int | Int[Array, ""] = 0
  ) -> tuple[Array, ...]:
    """Returns what was projected, turned where positions are rotary.

    Args:
      heads: what `project` returned.
      start: the first token's place.
    """
    if self.positions != "rotary":
      return tuple(heads)
    return tuple(
      head
      if part == "value"
      else rotary(head, start + jnp.arange(head.shape[1]))
      for part, head in zip(self._parts, heads, strict=True)
    )

  def for_all_heads(self, *arrays: Float[Array, "B S K H"]) -> list[Array]:
    """Returns `B S N H`: what heads share, once for each of them."""
    groups = self.num_heads // self.num_kv_heads
    return [jnp.repeat(x, groups, axis=2) for x in arrays]

  def mix(self, x, context, mask, causal):
    heads = self.project(x, x if context is None else context)
    query, key, value = self.turn(heads)
    mixed = self.attend(query, key, value, mask, causal)
    return self.out(mixed.reshape(*x.shape[:2], -1))

  def attend(
    self,
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    mask: Bool[Array, "B S"] | None,
    causal: bool,
  ) -> Float[Array, "B T N H"]:
    """Returns the mixed values; each mechanism has its own way."""
    raise NotImplementedError


class SoftmaxMixer(HeadMixer):
  """Heads whose weights are softmaxes, and may be dropped.

  Args:
    features: `C`.
    num_heads: `N`.
    dropout_rate: of the weights, in training.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `HeadMixer`.
  """

  def __init__(
    self,
    features: int,
    num_heads: int,
    *,
    dropout_rate: float = 0.0,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    super().__init__(features, num_heads, rngs=rngs, **arguments)
    if not 0 <= dropout_rate < 1:
      raise ValueError(f"dropout_rate: {dropout_rate} is not in [0, 1)")
    self.dropout_rate = dropout_rate
    self.deterministic = False
    self._dropout_rngs: Any = nnx.data(
      rngs.dropout.fork() if dropout_rate else None
    )

  @property
  def slopes(self) -> Float[Array, " N"] | None:
    """Of the bias by distance, as ALiBi has them."""
    if self.positions != "alibi":
      return None
    return 2.0 ** (-8 * jnp.arange(1, self.num_heads + 1) / self.num_heads)

  def dropout(self) -> dict[str, Any]:
    """Returns what `attention` takes of dropout: nothing in evaluation."""
    if not self.dropout_rate or self.deterministic:
      return {}
    key = self._dropout_rngs()
    return {"dropout_rate": self.dropout_rate, "dropout_key": key}


class CachedMixer(SoftmaxMixer):
  """Softmax heads that stream with a cache of the keys and values before.

  What a mechanism sees is told by `sees`, and by `reach` how far back at most;
  the cache holds no more, in a ring.

  Args:
    features: `C`.
    num_heads: `N`.
    positions: `"none"`, `"rotary"`, or `"alibi"` for a bias by distance.
    rngs: draws the initial kernels, and what is dropped.
    **arguments: those of `SoftmaxMixer`.
  """

  position_kinds = ("none", "rotary", "alibi")

  @property
  def reach(self) -> int | None:
    """Tokens that a causal token sees back, with itself; None if all."""
    return None

  def sees(self, row: Array, column: Array) -> Array:
    """Returns whether token `row` may see token `column`, if not causal."""
    return jnp.ones(jnp.broadcast_shapes(row.shape, column.shape), bool)

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Array]:
    size = min(max_length, self.reach or max_length)
    shape = (batch_size, size, self.num_kv_heads, self.head_dim)
    dtype = self.dtype or self.key.kernel.dtype
    return {
      "key": jnp.zeros(shape, dtype),
      "value": jnp.zeros(shape, dtype),
      "position": jnp.zeros((), jnp.int32),
    }

  def step(self, x, state):
    position = state["position"]
    heads = self.project(x[:, None], x[:, None])
    query, key, value = self.turn(heads, position)
    size = state["key"].shape[1]
    keys, values = (
      state[name]
      .at[:, position % size]
      .set(new[:, 0].astype(state[name].dtype))
      for name, new in (("key", key), ("value", value))
    )
    # The newest place of which a slot can hold the token.
    slots = jnp.arange(size)
    places = position - (position - slots) % size
    bias = hide((places >= 0) & self.sees(position[None], places))[None]
    groups = self.num_heads // self.num_kv_heads
    if self.slopes is not None:
      slopes = self.slopes.reshape(-1, groups)
      bias = bias + alibi(slopes, position[None], places)[..., 0, :]
    query = query.reshape(len(x), self.num_kv_heads, groups, self.head_dim)
    mixed, _ = weigh(query, keys.swapaxes(1, 2), values.swapaxes(1, 2), bias)
    out = self.out(mixed.reshape(len(x), -1))
    return out, {"key": keys, "value": values, "position": position + 1}
