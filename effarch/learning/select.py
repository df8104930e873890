"""Which examples of a batch count, by what they teach at the moment.

All are computed, so nothing is saved: the losses of those that don't count
have the weight zero, and the others weigh the more, so that the mean weight
stays one.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.infrastructure.training import LossFn, Technique
from effarch.learning.checks import check_within
from effarch.learning.watch import complete, watch

_MEASURES = ("loss", "margin")


@dataclasses.dataclass(frozen=True)
class SelfPaced(Technique):
  """A curriculum: the easiest examples first (self-paced, 1511.06049).

  Of each batch those of the smallest losses count; their share grows evenly.

  Args:
    first: in (0, 1]; the share at the beginning. 1 changes nothing.
    until: in (0, 1]; the share of the training after which all count.
  """

  first: float = 0.5
  until: float = 0.5

  def __post_init__(self):
    check_within("(0, 1]", first=self.first, until=self.until)

  def loss(self, loss_fn: LossFn) -> LossFn:
    if self.first == 1:
      return loss_fn

    def paced(model, batch):
      losses, metrics = loss_fn(model, batch)
      done = jnp.minimum(batch["progress"] / self.until, 1)
      share = self.first + (1 - self.first) * done
      return losses * smallest(losses, share), metrics

    return paced


@dataclasses.dataclass(frozen=True)
class HardExamples(Technique):
  """The hardest examples of each batch count alone (arXiv:1604.03540).

  Args:
    share: in (0, 1]; of the batch. 1 changes nothing.
    by: `"loss"`, the largest are the hardest, or `"margin"`, the smallest
      probability of the right class less the largest of another.
  """

  share: float = 0.5
  by: str = "loss"

  def __post_init__(self):
    check_within("(0, 1]", share=self.share)
    if self.by not in _MEASURES:
      raise ValueError(f"by: {self.by!r} is neither loss nor margin")

  def loss(self, loss_fn: LossFn) -> LossFn:
    if self.share == 1:
      return loss_fn

    def hard(model, batch):
      with watch(model, [""]) as seen:
        losses, metrics = loss_fn(model, batch)
      ease = -losses
      if self.by == "margin":
        ease = margins(complete(seen, [""])[""], batch["labels"])
      return losses * smallest(ease, self.share), metrics

    return hard


class Memory(nnx.Variable):
  """What is known of each example."""


class _Seen(nnx.Module):
  """Whether each was right when it was seen last, and how often that ended."""

  def __init__(self, slots: int):
    self.right = Memory(jnp.zeros(slots, bool))
    self.learned = Memory(jnp.zeros(slots, bool))
    self.forgotten = Memory(jnp.zeros(slots, jnp.int32))


@dataclasses.dataclass(frozen=True)
class Forgetting(Technique):
  """Examples that were learned and never forgotten count less (1812.05159).

  An example is forgotten when it is wrong and was right when seen before. The
  metric `forgotten` is the mean number of times.

  Args:
    start: in [0, 1); the share of the training in which all count the same.
    weight: in [0, 1]; of those never forgotten, beside 1 of the others. 1
      changes nothing.
    slots: as many examples are told apart; others share what is known of them.
  """

  start: float = 0.3
  weight: float = 0.0
  slots: int = 65_536

  def __post_init__(self):
    check_within("[0, 1)", start=self.start)
    check_within("[0, 1]", weight=self.weight)
    check_within("[1, inf)", slots=self.slots)

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model with a memory, until it is finished."""
    if self.weight < 1:
      model.seen_examples = _Seen(self.slots)  # pyright: ignore
    return model

  def loss(self, loss_fn: LossFn) -> LossFn:
    if self.weight == 1:
      return loss_fn

    def remembering(model, batch):
      losses, metrics = loss_fn(model, batch)
      (seen,) = [m for _, m in nnx.iter_modules(model) if type(m) is _Seen]
      place = batch["index"] % self.slots
      right = metrics["accuracy"] > 0.5
      lost = jnp.logical_and(seen.right[...][place], jnp.logical_not(right))
      forgotten = seen.forgotten[...].at[place].add(lost)
      learned = seen.learned[...].at[place].max(right)
      seen.forgotten[...], seen.learned[...] = forgotten, learned
      seen.right[...] = seen.right[...].at[place].set(right)
      times = forgotten[place]
      kept = jnp.logical_and(learned[place], times == 0)
      late = batch["progress"] >= self.start
      weights = jnp.where(jnp.logical_and(kept, late), self.weight, 1.0)
      # If none counts, none does.
      weights /= jnp.maximum(weights.mean(), jnp.finfo(jnp.float32).tiny)
      told = {**metrics, "forgotten": times.astype(jnp.float32)}
      return losses * weights, told

    return remembering

  def finish(self, model: nnx.Module) -> nnx.Module:
    """Returns the model without the memory."""
    for _, module in list(nnx.iter_modules(model)):
      if type(getattr(module, "seen_examples", None)) is _Seen:
        del module.seen_examples
    return model


def margins(
  logits: Float[Array, "B K"], labels: Float[Array, "B K"]
) -> Float[Array, " B"]:
  """Returns each right class's probability less the largest of another."""
  right = labels == labels.max(-1, keepdims=True)
  p = jax.nn.softmax(logits)
  return jnp.where(right, p, 0).max(-1) - jnp.where(right, 0, p).max(-1)


def smallest(
  values: Float[Array, " B"], share: float | Float[Array, ""]
) -> Float[Array, " B"]:
  """Returns weights of mean one for a share with the smallest values, rounded.

  Those of the others are zeros; one counts at least.
  """
  size = len(values)
  count = jnp.maximum(1, jnp.round(share * size))
  rank = jnp.argsort(jnp.argsort(values))
  return jnp.where(rank < count, size / count, 0.0)
