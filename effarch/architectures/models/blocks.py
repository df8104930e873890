"""The layers of Transformers, which mix tokens by any mechanism.

The Transformer (arXiv:1706.03762), normed before (arXiv:2002.04745) or after
each part, with gated feed-forward networks (arXiv:2002.05202) if asked.

Axes: `B` batch, `T` tokens, `D` channels of an input, `C` channels, `F` hidden
channels, `V` vocabulary, `L` layers.
Parameters: `V C` (`D C + C` without a vocabulary), `T C` of learned places,
and `L (3 C F + 2 C) + C` with those of the mixers; a feed-forward network that
gates nothing has `2 C F`, and none at all leaves `C` a layer.
MACs: `3 L T C F` (or `2 L T C F`) with those of the mixers, and `T D C` without
a vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from effarch.architectures.attention import ATTENTION, Mixer
from effarch.architectures.attention.mixer import check_length
from effarch.config import arguments, build, did_you_mean

# The activation of a feed-forward network, and whether it gates.
FEED_FORWARDS = {
  "swiglu": (nnx.silu, True),
  "geglu": (nnx.gelu, True),
  "gelu": (nnx.gelu, False),
  "relu": (nnx.relu, False),
}
_NORMS = ("pre", "post")
_POSITIONS = ("learned", "rotary", "none")


class FeedForward(nnx.Module):
  """Two linear layers and an activation, of each token by itself.

  Args:
    features: `C`.
    hidden_features: `F`.
    kind: a key of `FEED_FORWARDS`.
    **kinds: `dtype`, `param_dtype` and `rngs`.
  """

  def __init__(
    self, features: int, hidden_features: int, kind: str, **kinds: Any
  ):
    self.activation, gated = FEED_FORWARDS[kind]
    shape = (features, hidden_features)
    self.hidden = nnx.Linear(*shape, use_bias=False, **kinds)
    self.gate = nnx.data(None)
    if gated:
      self.gate = nnx.Linear(*shape, use_bias=False, **kinds)
    self.out = nnx.Linear(*shape[::-1], use_bias=False, **kinds)

  def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
    if self.gate is None:
      return self.out(self.activation(self.hidden(x)))
    return self.out(self.activation(self.gate(x)) * self.hidden(x))


class Block(nnx.Module):
  """One layer: a mixer and a feed-forward network, added to what they got.

  Args:
    mixer: of tokens.
    features: `C`.
    hidden_features: `F`; 0 leaves the feed-forward network out.
    norm: `"pre"` norms what is mixed, `"post"` what is added up.
    feed_forward: a key of `FEED_FORWARDS`.
    dropout_rate: of what is added, in training.
    **kinds: `dtype`, `param_dtype` and `rngs`.
  """

  def __init__(
    self,
    mixer: Mixer,
    features: int,
    hidden_features: int,
    *,
    norm: str = "pre",
    feed_forward: str = "swiglu",
    dropout_rate: float = 0.0,
    **kinds: Any,
  ):
    self.mixer, self.post = mixer, norm == "post"
    self.norms = nnx.List([nnx.RMSNorm(features, **kinds)])
    self.feed_forward = nnx.data(None)
    if hidden_features:
      self.norms.append(nnx.RMSNorm(features, **kinds))
      self.feed_forward = FeedForward(
        features, hidden_features, feed_forward, **kinds
      )
    self.dropout = nnx.data(None)
    if dropout_rate:
      self.dropout = nnx.Dropout(dropout_rate, rngs=kinds["rngs"])

  def __call__(
    self,
    x: Float[Array, "B T C"],
    mask: Bool[Array, "B T"] | None = None,
    causal: bool = False,
  ) -> Float[Array, "B T C"]:
    x = self._add(x, 0, lambda y: self.mixer(y, mask=mask, causal=causal))
    return self._feed(x)

  def step(
    self, x: Float[Array, "B C"], state: Any
  ) -> tuple[Float[Array, "B C"], Any]:
    """Returns what the next token becomes, and the state after it."""
    after = None

    def mix(y):
      nonlocal after
      out, after = self.mixer.step(y, state)
      return out

    return self._feed(self._add(x, 0, mix)), after

  def _feed(self, x):
    return (
      x if self.feed_forward is None else self._add(x, 1, self.feed_forward)
    )

  def _add(self, x, place, branch):
    norm = self.norms[place]
    added = branch(x if self.post else norm(x))
    if self.dropout is not None:
      added = self.dropout(added)
    return norm(x + added) if self.post else x + added


class Transformer(nnx.Module):
  """What all of them share: embedded tokens, and the layers they go through.

  Args:
    length: `T`, as many tokens come at most.
    channels: of inputs that are floats, no tokens.
    vocab_size: `V`, or 0.
    features: `C`.
    depth: `L`.
    num_heads: of the mixers that have heads and tell nothing else.
    hidden_features: `F`; 0 leaves the feed-forward networks out.
    mixers: of the first layers, each a `name` of `ATTENTION` with arguments;
      the layers after them have the same again, in turns.
    norm: `"pre"` or `"post"`.
    feed_forward: `"swiglu"`, `"geglu"`, `"gelu"` or `"relu"`.
    positions: `"learned"`, added to the tokens; `"rotary"` in all mixers that
      have queries and keys; or `"none"`.
    dropout_rate: of embedded tokens and of what layers add, in training.
    dtype: of the computation, `"float32"` or `"bfloat16"`.
    param_dtype: of the parameters.
    rngs: draws the initial parameters, and what is dropped.

  Raises:
    ValueError: an argument is out of its range, or a mixer refuses its own.
  """

  def __init__(
    self,
    length: int,
    channels: int,
    *,
    vocab_size: int = 0,
    features: int = 64,
    depth: int = 2,
    num_heads: int = 4,
    hidden_features: int = 128,
    mixers: Sequence[Any] = ({"name": "full"},),
    norm: str = "pre",
    feed_forward: str = "swiglu",
    positions: str = "learned",
    dropout_rate: float = 0.0,
    dtype: Any = "float32",
    param_dtype: Any = "float32",
    rngs: nnx.Rngs,
  ):
    for name, number in (("features", features), ("depth", depth)):
      if number < 1:
        raise ValueError(f"{name}: {number} is not positive")
    if hidden_features < 0:
      raise ValueError(f"hidden_features: {hidden_features} is negative")
    if not 0 <= dropout_rate < 1:
      raise ValueError(f"dropout_rate: {dropout_rate} is not in [0, 1)")
    if dtype not in ("float32", "bfloat16"):
      raise ValueError(f"dtype: {dtype!r} is neither float32 nor bfloat16")
    listed = [] if isinstance(mixers, Mapping | str) else list(mixers)
    if not listed or not all(isinstance(e, Mapping) for e in listed):
      raise ValueError(
        f"mixers: {mixers!r} is no list of mixers, ({{'name': 'full'}},)"
      )
    if len(listed) > depth:
      raise ValueError(f"mixers: {len(listed)} are more than {depth} layers")
    for name, value, choices in (
      ("norm", norm, _NORMS),
      ("feed_forward", feed_forward, FEED_FORWARDS),
      ("positions", positions, _POSITIONS),
    ):
      if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise ValueError(f"{name}: {value!r} is unknown; {hint}")
    kinds = {
      "dtype": jnp.dtype(dtype),
      "param_dtype": jnp.dtype(param_dtype),
      "rngs": rngs,
    }
    self.length = length
    if vocab_size:
      self.embedding = nnx.Embed(vocab_size, features, **kinds)
    else:
      self.embedding = nnx.Linear(channels, features, **kinds)
    self.places = nnx.data(None)
    if positions == "learned":
      self.places = nnx.Embed(length, features, **kinds)
    # What a mixer that takes these is given, unless its config says it.
    offered: dict[str, Any] = {"num_heads": num_heads, "max_length": length}

    def make_block(layer: int) -> Block:
      place = layer % len(listed)
      entries: dict[str, Any] = dict(listed[place])
      given: dict[str, Any] = {}
      kind = ATTENTION.get(entries.get("name", ""))
      if kind is not None:
        taken = arguments(kind)
        given = {k: v for k, v in kinds.items() if k in taken}
        added = {k: v for k, v in offered.items() if k in taken}
        if positions in kind.position_kinds:
          added["positions"] = positions
        entries = added | entries
      mixer = build(
        ATTENTION, entries, f"mixers[{place}]", features=features, **given
      )
      return Block(
        *(mixer, features, hidden_features),
        norm=norm,
        feed_forward=feed_forward,
        dropout_rate=dropout_rate,
        **kinds,
      )

    self.blocks = nnx.List([make_block(layer) for layer in range(depth)])
    self.norm = nnx.RMSNorm(features, **kinds)
    self.dropout = nnx.data(None)
    if dropout_rate:
      self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)

  def embed(
    self,
    x: Int[Array, "B T"] | Float[Array, "B T D"],
    start: int | Int[Array, ""] = 0,
  ) -> Float[Array, "B T C"]:
    """Returns embedded tokens with their places, the first at `start`."""
    length = x.shape[1]
    check_length(length, self.length)
    x = self.embedding(x)
    if self.places is not None:
      x = x + self.places(start + jnp.arange(length))
    return x if self.dropout is None else self.dropout(x)

  def encode(
    self,
    x: Float[Array, "B T C"],
    mask: Bool[Array, "B T"] | None = None,
    causal: bool = False,
  ) -> Float[Array, "B T C"]:
    """Returns what the layers make of embedded tokens.

    Where all may see all, the mixers that are causal only go in turns from the
    first token to the last, and back.

    Args:
      x: embedded tokens.
      mask: true where they are no padding.
      causal: token `t` sees the tokens `0 ... t` alone.
    """
    back = False
    for block in self.blocks:
      if causal or block.mixer.supports.bidirectional:
        x = block(x, mask, causal)
        continue
      if back:
        turned = None if mask is None else mask[:, ::-1]
        x = block(x[:, ::-1], turned, True)[:, ::-1]
      else:
        x = block(x, mask, True)
      back = not back
    return self.norm(x)
