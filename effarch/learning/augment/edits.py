"""Tokens swapped, deleted and inserted, as in EDA (arXiv:1901.11196).

Tokens change their places, so a text may have a label but not each token.
Padding stays at the end.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from effarch.infrastructure.data.dataset import PADDING
from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.inputs import tokens
from effarch.learning.checks import check_within

Tokens = Int[Array, "*B T"]


def random_swap(inputs: Tokens, rng: Key[Array, ""], share: float) -> Tokens:
  """Swaps random pairs of tokens, none of them twice.

  Args:
    inputs: with padding at the end.
    rng: of the pairs.
    share: of the tokens that are swapped, to whole pairs rounded.
  """
  length = (inputs != PADDING).sum(-1, keepdims=True)
  order = _random_order(rng, inputs)
  rank = jnp.argsort(order, -1)
  pairs = jnp.round(share * length / 2).astype(jnp.int32)
  pairs = jnp.minimum(pairs, length // 2)
  # Neighbours in a random order are a random pair.
  partner = jnp.where(rank < 2 * pairs, rank ^ 1, rank)
  place = jnp.take_along_axis(order, partner, -1)
  return jnp.take_along_axis(inputs, place, -1)


def random_delete(
  inputs: Tokens, rng: Key[Array, ""], probability: float
) -> Tokens:
  """Deletes each token with the same probability; one of a text stays."""
  delete_rng, order_rng = jax.random.split(rng)
  real = inputs != PADDING
  kept = real & ~jax.random.bernoulli(delete_rng, probability, inputs.shape)
  survivor = _random_order(order_rng, inputs)[..., :1]
  place = jnp.arange(inputs.shape[-1])
  none = ~kept.any(-1, keepdims=True)
  kept |= none & real & (place == survivor)
  order = jnp.argsort(~kept, -1, stable=True)
  moved = jnp.take_along_axis(inputs, order, -1)
  return jnp.where(place < kept.sum(-1, keepdims=True), moved, PADDING)


def random_insert(
  inputs: Tokens, rng: Key[Array, ""], probability: float
) -> Tokens:
  """Inserts, after each token with the same probability, one of its text.

  What has no room any more at the end is lost.
  """
  insert_rng, token_rng = jax.random.split(rng)
  real = inputs != PADDING
  inserts = jax.random.bernoulli(insert_rng, probability, inputs.shape) & real
  length = real.sum(-1, keepdims=True)
  # Where in the text each place of the result lies, and whether it is new.
  place = jnp.arange(inputs.shape[-1])
  ends = jnp.cumsum(1 + inserts, -1)
  flat = ends.reshape(-1, ends.shape[-1])
  source = jax.vmap(lambda e: jnp.searchsorted(e, place, side="right"))(flat)
  source = source.reshape(inputs.shape)
  old = jnp.take_along_axis(inputs, source, -1)
  is_new = jnp.take_along_axis(inserts, source, -1)
  is_new &= place == jnp.take_along_axis(ends, source, -1) - 1
  other = jax.random.randint(token_rng, inputs.shape, 0, jnp.maximum(length, 1))
  return jnp.where(is_new, jnp.take_along_axis(inputs, other, -1), old)


def _random_order(rng, inputs):
  """Returns the places of all tokens in random order, padding last."""
  weight = jax.random.uniform(rng, inputs.shape)
  return jnp.argsort(jnp.where(inputs != PADDING, weight, 2.0), -1)


@dataclasses.dataclass(frozen=True)
class RandomSwap(Technique):
  """Swaps random tokens of a text (arXiv:1901.11196).

  Args:
    share: of the tokens that change places; 0 is off.
  """

  share: float = 0.1

  def __post_init__(self):
    check_within("[0, 1]", share=self.share)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    inputs = tokens(self, batch, moves=True)
    return {**batch, "inputs": random_swap(inputs, rng, self.share)}


@dataclasses.dataclass(frozen=True)
class RandomDelete(Technique):
  """Deletes random tokens of a text (arXiv:1901.11196).

  Args:
    probability: of each token; 0 is off.
  """

  probability: float = 0.1

  def __post_init__(self):
    check_within("[0, 1]", probability=self.probability)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    inputs = tokens(self, batch, moves=True)
    return {**batch, "inputs": random_delete(inputs, rng, self.probability)}


@dataclasses.dataclass(frozen=True)
class RandomInsert(Technique):
  """Inserts tokens of a text at random into it (arXiv:1901.11196).

  The paper inserts synonyms; here it is any token of the text again.

  Args:
    probability: after each token; 0 is off.
  """

  probability: float = 0.1

  def __post_init__(self):
    check_within("[0, 1]", probability=self.probability)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    inputs = tokens(self, batch, moves=True)
    return {**batch, "inputs": random_insert(inputs, rng, self.probability)}
