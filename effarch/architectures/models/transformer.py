"""An encoder, a dual encoder and a decoder with any mixers.

An encoder has a class for each sequence, a dual encoder one for each pair, a
decoder the next token for each.

Axes: `B` batch, `T` tokens, `D` channels of an input, `C` channels, `V`
vocabulary, `K` classes.
Parameters: those of the layers (see `blocks`), and `C K + K` of an encoder,
`3 C^2 + C + C K + K` of a dual encoder, `C K` of a decoder if not tied.
MACs: those of the layers (twice in a dual encoder), and as many as these less
the biases; of a decoder `T C K`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from effarch.architectures.attention.mixer import check_length
from effarch.architectures.models.blocks import Transformer
from effarch.config import did_you_mean


def pool(
  x: Float[Array, "B T C"], mask: Bool[Array, "B T"] | None, kind: str
) -> Float[Array, "B C"]:
  """Returns one vector for each sequence, padding left out.

  Args:
    x: encoded tokens.
    mask: true where they are no padding.
    kind: a key of `POOLS`.
  """
  if mask is None:
    mask = jnp.ones(x.shape[:2], bool)
  return POOLS[kind](x, mask)


def _mean(x, mask):
  total = jnp.where(mask[..., None], x, 0).sum(1)
  return total / jnp.maximum(mask.sum(1), 1)[:, None].astype(x.dtype)


def _max(x, mask):
  largest = jnp.where(mask[..., None], x, -jnp.inf).max(1)
  return jnp.where(mask.any(1)[:, None], largest, 0)


def _first(x, mask):
  return jnp.take_along_axis(x, mask.argmax(1)[:, None, None], 1)[:, 0]


def _last(x, mask):
  return _first(x[:, ::-1], mask[:, ::-1])


POOLS = {"mean": _mean, "max": _max, "first": _first, "last": _last}


class Encoder(Transformer):
  """A class for each sequence.

  Args:
    input_shape: `(T,)` of tokens, padded with 0 at the end, or `(T, D)`.
    num_classes: `K`.
    pooling: `"mean"`, `"max"`, `"first"` or `"last"` of the encoded tokens.
    rngs: draws the initial parameters, and what is dropped.
    **arguments: those of `Transformer`.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    pooling: str = "mean",
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    _check_shape(input_shape, arguments.get("vocab_size", 0))
    if pooling not in POOLS:
      hint = did_you_mean(str(pooling), POOLS)
      raise ValueError(f"pooling: {pooling!r} is unknown; {hint}")
    super().__init__(input_shape[0], input_shape[-1], rngs=rngs, **arguments)
    self.pooling = pooling
    features = self.norm.num_features
    self.classifier = nnx.Linear(
      *(features, num_classes),
      dtype=self.norm.dtype,
      param_dtype=self.norm.param_dtype,
      rngs=rngs,
    )

  def __call__(
    self, x: Int[Array, "B T"] | Float[Array, "B T D"]
  ) -> Float[Array, "B K"]:
    return self.classifier(self.vector(x)).astype(jnp.float32)

  def vector(
    self, x: Int[Array, "B T"] | Float[Array, "B T D"]
  ) -> Float[Array, "B C"]:
    """Returns what a sequence is pooled to."""
    mask = None if x.ndim == 3 else x != 0
    return pool(self.encode(self.embed(x), mask), mask, self.pooling)


class DualEncoder(Encoder):
  """A class for each pair of sequences, the same if they change places.

  Both go through one encoder; the sum, difference and product of what they
  are pooled to go through a hidden layer.

  Args:
    input_shape: `(2, T)` of tokens, padded with 0 at the end.
    num_classes: `K`.
    rngs: draws the initial parameters, and what is dropped.
    **arguments: those of `Encoder`.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    if len(input_shape) != 2 or input_shape[0] != 2:
      raise ValueError(f"input_shape: {input_shape} is no pair, 2 T")
    super().__init__(input_shape[1:], num_classes, rngs=rngs, **arguments)
    features = self.norm.num_features
    self.hidden = nnx.Linear(
      *(3 * features, features),
      dtype=self.norm.dtype,
      param_dtype=self.norm.param_dtype,
      rngs=rngs,
    )

  def __call__(self, x: Int[Array, "B 2 T"]) -> Float[Array, "B K"]:
    vectors = self.vector(x.reshape(-1, x.shape[-1]))
    first, second = jnp.moveaxis(vectors.reshape(len(x), 2, -1), 1, 0)
    parts = first + second, abs(first - second), first * second
    hidden = nnx.relu(self.hidden(jnp.concatenate(parts, axis=-1)))
    return self.classifier(hidden).astype(jnp.float32)


class Decoder(Transformer):
  """The next token's logits for each token, or for one token after another.

  Args:
    input_shape: `(T,)` of tokens.
    num_classes: `K`.
    tied: the embeddings are also the classifier's, `K = V`.
    rngs: draws the initial parameters, and what is dropped.
    **arguments: those of `Transformer`.

  Raises:
    ValueError: an argument is out of its range, or a mixer is not causal.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    tied: bool = True,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    vocab_size = arguments.get("vocab_size", 0)
    if len(input_shape) != 1 or not vocab_size:
      raise ValueError(f"input_shape: {input_shape} is not T, of tokens")
    if tied and num_classes != vocab_size:
      raise ValueError(
        f"tied: {num_classes} classes are not the {vocab_size} tokens"
      )
    super().__init__(input_shape[0], 1, rngs=rngs, **arguments)
    for block in self.blocks:
      if not block.mixer.supports.causal:
        kind = type(block.mixer).__name__
        raise ValueError(f"mixers: {kind} is not causal, and a decoder is")
    self.classifier = nnx.data(None)
    if not tied:
      self.classifier = nnx.Linear(
        *(self.norm.num_features, num_classes),
        use_bias=False,
        dtype=self.norm.dtype,
        param_dtype=self.norm.param_dtype,
        rngs=rngs,
      )

  def __call__(self, x: Int[Array, "B T"]) -> Float[Array, "B T K"]:
    return self._logits(self.encode(self.embed(x), causal=True))

  def init_state(self, batch_size: int, max_length: int) -> dict[str, Any]:
    """Returns the state before the first token.

    Args:
      batch_size: `B`.
      max_length: as many tokens come at most, `T` or fewer where places are
        learned.

    Raises:
      ValueError: a mixer does not stream, or places are learned for fewer.
    """
    if self.places is not None:
      check_length(max_length, self.length)
    return {
      "position": jnp.zeros((), jnp.int32),
      "blocks": [
        block.mixer.init_state(batch_size, max_length) for block in self.blocks
      ],
    }

  def step(
    self, x: Int[Array, " B"], state: dict[str, Any]
  ) -> tuple[Float[Array, "B K"], dict[str, Any]]:
    """Returns the logits after one more token, and the state after it."""
    x = self.embed(x[:, None], state["position"])[:, 0]
    after = []
    for block, before in zip(self.blocks, state["blocks"], strict=True):
      x, state_after = block.step(x, before)
      after.append(state_after)
    logits = self._logits(self.norm(x))
    return logits, {"position": state["position"] + 1, "blocks": after}

  def _logits(self, x):
    if self.classifier is None:
      assert isinstance(self.embedding, nnx.Embed)  # It takes tokens.
      return self.embedding.attend(x).astype(jnp.float32)
    return self.classifier(x).astype(jnp.float32)


def _check_shape(shape, vocab_size):
  """Refuses inputs that are no sequence of tokens, or of floats."""
  if vocab_size and len(shape) != 1:
    raise ValueError(f"input_shape: {shape} is not T, of tokens")
  if not vocab_size and len(shape) != 2:
    raise ValueError(f"input_shape: {shape} is not T D")
