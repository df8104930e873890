"""Synthetic examples of tables."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment.inputs import classes, floats
from effarch.learning.checks import check_within


def smote(
  features: Float[Array, "B F"],
  labels: Float[Array, "B K"],
  rng: Key[Array, ""],
  num_neighbors: int = 5,
) -> tuple[Float[Array, "B F"], Int[Array, " B"]]:
  """Draws synthetic examples, every class of the batch as often.

  Args:
    features: on scales that distances can be measured in.
    labels: whose likeliest class counts.
    rng: of classes, examples, neighbours and places between them.
    num_neighbors: of an example's nearest of its class.

  Returns:
    Points between an example and a neighbour, and the examples' places; an
    example without others of its class in the batch is repeated.
  """
  example_rng, neighbour_rng, between_rng = jax.random.split(rng, 3)
  number = len(features)
  kind = jnp.argmax(labels, -1)
  same = kind[:, None] == kind
  # By rarity, all classes are drawn as often.
  chance = jnp.log(1 / same.sum(1))
  place = jax.random.categorical(example_rng, chance, shape=(number,))
  difference = features[place, None] - features
  distance = jnp.square(difference).sum(-1)
  others = same[place] & (place[:, None] != jnp.arange(number))
  distance = jnp.where(others, distance, jnp.inf)
  near = jnp.argsort(distance, axis=1)
  found = jnp.minimum(others.sum(1), num_neighbors)
  rank = jax.random.randint(neighbour_rng, (number,), 0, jnp.maximum(found, 1))
  neighbour = jnp.take_along_axis(near, rank[:, None], 1)[:, 0]
  neighbour = jnp.where(found > 0, neighbour, place)
  between = jax.random.uniform(between_rng, (number, 1), features.dtype)
  start, end = features[place], features[neighbour]
  return start + between * (end - start), place


@dataclasses.dataclass(frozen=True)
class Smote(Technique):
  """SMOTE (arXiv:1106.1813): synthetic examples, of rare classes most.

  Neighbours are those of the batch, where the paper's are of all data: a large
  batch serves it well. A synthetic example has label and place of the example
  it starts from.

  Args:
    probability: of each example to be replaced by a synthetic one.
    num_neighbors: of which one is drawn.
  """

  probability: float = 0.5
  num_neighbors: int = 5

  def __post_init__(self):
    check_within("[0, 1]", probability=self.probability)
    check_within("[1, inf)", num_neighbors=self.num_neighbors)

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    features = floats(self, batch, "features")
    labels = classes(self, batch)
    chosen_rng, own_rng = jax.random.split(rng)
    number = len(features)
    made, place = smote(features, labels, own_rng, self.num_neighbors)
    chosen = jax.random.bernoulli(chosen_rng, self.probability, (number,))
    place = jnp.where(chosen, place, jnp.arange(number))
    inputs = jnp.where(chosen[:, None], made, features)
    return {
      **batch,
      "inputs": inputs,
      "labels": labels[place],
      "index": batch["index"][place],
    }
