"""Tokens replaced where they stand; bytes are tokens too.

Padding stays padding, and a token keeps its place, so each may have a label.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from effarch.infrastructure.data.dataset import PADDING
from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.inputs import tokens
from effarch.learning.checks import check_within

Tokens = Int[Array, "*B T"]


def word_dropout(
  inputs: Tokens, rng: Key[Array, ""], probability: float, token: int
) -> Tokens:
  """Replaces each token by `token` with the same probability."""
  chosen = jax.random.bernoulli(rng, probability, inputs.shape)
  return jnp.where(chosen & (inputs != PADDING), token, inputs)


@dataclasses.dataclass(frozen=True)
class WordDropout(Technique):
  """Word dropout (arXiv:1511.06349): words become unknown.

  Args:
    probability: of each token; 0 is off.
    token: what it becomes. 1 is a character text's unknown one, and a byte
      that no text has.
  """

  probability: float = 0.1
  token: int = 1

  def __post_init__(self):
    check_within("[0, 1]", probability=self.probability)
    check_token("token", self.token)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    inputs = tokens(self, batch)
    changed = word_dropout(inputs, rng, self.probability, self.token)
    return {**batch, "inputs": changed}


def switch_out(
  inputs: Tokens, rng: Key[Array, ""], temperature: float, vocab_size: int
) -> Tokens:
  """Replaces a random number of tokens by any others.

  Args:
    inputs: with padding.
    rng: of numbers, places and tokens.
    temperature: of the numbers `n` to be replaced, `exp(-n / temperature)`.
    vocab_size: with the padding, which replaces none.
  """
  number_rng, place_rng, token_rng = jax.random.split(rng, 3)
  real = inputs != PADDING
  length = real.sum(-1, keepdims=True)
  numbers = jnp.arange(inputs.shape[-1] + 1)
  chance = jnp.where(numbers <= length, -numbers / temperature, -jnp.inf)
  number = jax.random.categorical(number_rng, chance)[..., None]
  # As in the paper, each is replaced by chance: so many in the mean.
  share = number / jnp.maximum(length, 1)
  chosen = jax.random.uniform(place_rng, inputs.shape) < share
  other = jax.random.randint(token_rng, inputs.shape, 1, vocab_size)
  return jnp.where(chosen & real, other.astype(inputs.dtype), inputs)


@dataclasses.dataclass(frozen=True)
class SwitchOut(Technique):
  """SwitchOut (arXiv:1808.07512): any tokens in place of some.

  Args:
    vocab_size: how many tokens there are, with the padding.
    temperature: the larger, the more are replaced; 0 is off.
  """

  vocab_size: int
  temperature: float = 1.0

  def __post_init__(self):
    if self.vocab_size < 2:
      raise ValueError(f"vocab_size: {self.vocab_size} is less than 2")
    check_within("[0, inf)", temperature=self.temperature)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    inputs = tokens(self, batch)
    if not self.temperature:
      return batch
    changed = switch_out(inputs, rng, self.temperature, self.vocab_size)
    return {**batch, "inputs": changed}


def spans(
  rng: Key[Array, ""], shape: tuple[int, ...], rate: float, mean_length: float
) -> Bool[Array, "*B T"]:
  """Draws spans whose lengths are geometrically distributed.

  Args:
    rng: of beginnings and lengths.
    shape: of the result.
    rate: about the share of places in spans, which may overlap.
    mean_length: of a span, at least 1.
  """
  start_rng, length_rng = jax.random.split(rng)
  # A place is free with probability `exp(-begins mean_length)`.
  begins = min(1.0, -math.log1p(-rate) / mean_length)
  starts = jax.random.bernoulli(start_rng, begins, shape)
  length = jax.random.geometric(length_rng, 1 / mean_length, shape)
  place = jnp.arange(shape[-1])
  end = jnp.where(starts, place + jnp.minimum(length, shape[-1]), 0)
  return jax.lax.cummax(end, axis=len(shape) - 1) > place


@dataclasses.dataclass(frozen=True)
class SpanMasking(Technique):
  """Masks spans of tokens, as SpanBERT does (arXiv:1907.10529).

  Args:
    rate: about the share of tokens that is masked; 0 is off.
    mean_length: of the spans, in tokens.
    token: what takes the place of all in a span; see `WordDropout`.
  """

  rate: float = 0.15
  mean_length: float = 3.0
  token: int = 1

  def __post_init__(self):
    check_within("[0, 1)", rate=self.rate)
    if not self.mean_length >= 1:
      raise ValueError(f"mean_length: {self.mean_length} is less than 1")
    check_token("token", self.token)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    inputs = tokens(self, batch)
    masked = spans(rng, inputs.shape, self.rate, self.mean_length)
    masked &= inputs != PADDING
    return {**batch, "inputs": jnp.where(masked, self.token, inputs)}


def check_token(name: str, value: int) -> None:
  """Refuses what is no token of a text.

  Raises:
    ValueError: `value` is the padding or less.
  """
  if value <= PADDING:
    raise ValueError(f"{name}: {value} is not above the padding {PADDING}")
