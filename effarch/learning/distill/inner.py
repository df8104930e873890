"""Learning from a teacher's inner tensors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.config import did_you_mean
from effarch.errors import UserError
from effarch.infrastructure.training import LossFn
from effarch.learning.checks import check_within
from effarch.learning.distill import losses
from effarch.learning.distill.attachment import attach, attached, detach
from effarch.learning.distill.pairs import pairs
from effarch.learning.distill.teacher import Taught
from effarch.learning.watch import complete, shapes, watch

_EMBEDDED, _TEMPERATURE = 128, 0.07


def pooled(x: Float[Array, "B *P C"]) -> Float[Array, "B C"]:
  """Returns the mean over all places."""
  return x.mean(tuple(range(1, x.ndim - 1)))


def resized(
  x: Float[Array, "B *P C"], shape: tuple[int, ...]
) -> Float[Array, "B *Q C"]:
  """Returns a tensor with the places of `shape`, interpolated.

  Raises:
    UserError: places have other axes.
  """
  if len(shape) != x.ndim:
    raise UserError(
      f"config.techniques.layers: tensors of {x.shape[1:]} and {shape[1:]} for "
      "each example have no places in common"
    )
  wanted = (len(x), *shape[1:-1], x.shape[-1])
  return x if x.shape == wanted else jax.image.resize(x, wanted, "linear")


class Same(nnx.Module):
  """Compares tensors as they are."""

  def __call__(self, student, teacher):
    return student, teacher


class SamePlaces(nnx.Module):
  """Compares tensors at the teacher's places."""

  def __call__(self, student, teacher):
    return resized(student, teacher.shape), teacher


class Projected(nnx.Module):
  """Compares at the teacher's places, in its channels.

  Args:
    in_features: channels of the student.
    out_features: channels of the teacher.
    rngs: draws the projection, there if these differ.
  """

  def __init__(self, in_features: int, out_features: int, rngs: nnx.Rngs):
    self.projection = nnx.data(None)
    if in_features != out_features:
      self.projection = nnx.Linear(in_features, out_features, rngs=rngs)

  def __call__(self, student, teacher):
    student = resized(student, teacher.shape)
    if self.projection is not None:
      student = self.projection(student)
    return student, teacher


class Embedded(nnx.Module):
  """Compares linear embeddings of means over places.

  Args:
    in_features: channels of the student.
    out_features: channels of the teacher.
    rngs: draws both embeddings.
  """

  def __init__(self, in_features: int, out_features: int, rngs: nnx.Rngs):
    self.student = nnx.Linear(in_features, _EMBEDDED, rngs=rngs)
    self.teacher = nnx.Linear(out_features, _EMBEDDED, rngs=rngs)

  def __call__(self, student, teacher):
    return self.student(pooled(student)), self.teacher(pooled(teacher))


# What is compared, made for channels of student and teacher, and how.
OBJECTIVES = {
  "hints": (Projected, losses.hints),
  "attention_transfer": (
    lambda *_: SamePlaces(),
    losses.attention_transfer,
  ),
  "relational": (lambda *_: Same(), losses.relational),
  "similarity_preserving": (
    lambda *_: Same(),
    losses.similarity_preserving,
  ),
  "contrastive": (
    Embedded,
    functools.partial(losses.contrastive, temperature=_TEMPERATURE),
  ),
}


@dataclasses.dataclass(frozen=True)
class DistillFeatures(Taught):
  """Trains on `loss + weight objective(student's, teacher's)` of tensors.

  Of several pairs of tensors, and several teachers, it is the mean. What is
  trained beside the student, such as a projection, `finish` takes off.

  Args:
    layers: pairs of paths of modules, the student's first; see `features`.
      Two lists of modules are paired layer by layer, as TinyBERT does.
    objective: `"hints"`, by a linear projection where channels differ;
      `"attention_transfer"`; `"relational"`; `"similarity_preserving"`; or
      `"contrastive"`, of 128 channels at temperature 0.07. See `losses`.
    weight: 0 asks no teacher.
    seed: draws what is trained beside the student.
  """

  layers: Sequence[Sequence[str]] = ()
  objective: str = "hints"
  weight: float = 1.0
  seed: int = 0

  def __post_init__(self):
    super().__post_init__()
    layers = tuple(() if isinstance(p, str) else tuple(p) for p in self.layers)
    if not layers or any(len(pair) != 2 for pair in layers):
      raise ValueError(
        f"layers: {self.layers!r} are no pairs, (('layers.3', 'layers.5'),)"
      )
    object.__setattr__(self, "layers", layers)
    if self.objective not in OBJECTIVES:
      hint = did_you_mean(str(self.objective), OBJECTIVES)
      raise ValueError(f"objective: {self.objective!r} is unknown; {hint}")
    check_within("[0, inf)", weight=self.weight)

  def constants(self, train: Any) -> dict[str, Any]:
    return super().constants(train) if self.weight else {}

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model, with what is trained beside it.

    Raises:
      UserError: a path is that of no module that is called, a teacher has
        none, or a folder holds no finished run.
    """
    if not self.weight:
      return model
    make, _ = OBJECTIVES[self.objective]
    rngs, parts = nnx.Rngs(self.seed), []
    for teacher in self.teachers():
      if not isinstance(teacher, nnx.Module):
        raise UserError(
          "config.techniques.teacher: a function has no inner tensors"
        )
      found = pairs(model, teacher, self.layers)
      ours, theirs = zip(*found, strict=True)
      own = shapes(model, ours, example)
      others = shapes(teacher, theirs, example)
      for a, b in found:
        parts.append(make(own[a].shape[-1], others[b].shape[-1], rngs))
    return attach(model, self, parts)

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.weight:
      return loss_fn

    def distilled(model, batch):
      host, parts = attached(model, self)
      teachers = batch["constants"][self.name]
      found = [pairs(host, each, self.layers) for each in teachers]
      ours = [a for each in found for a, _ in each]
      with watch(host, ours) as own:
        plain, metrics = loss_fn(model, batch)
      complete(own, ours)
      theirs = []
      for teacher, each in zip(teachers, found, strict=True):
        paths = [b for _, b in each]
        with watch(teacher, paths) as others:
          teacher(batch["inputs"])
        theirs += [jax.lax.stop_gradient(others[b]) for b in paths]
      _, compare = OBJECTIVES[self.objective]
      distances = [
        compare(*part(own[a].astype("float32"), b.astype("float32")))
        for part, a, b in zip(parts, ours, theirs, strict=True)
      ]
      mean = jnp.stack(distances).mean(0)
      return plain + self.weight * mean, metrics

    return distilled

  def finish(self, model: nnx.Module) -> nnx.Module:
    return detach(model, self) if self.weight else model
