"""Teachers: a run's folder, a model, or a function of a batch's inputs.

They reach the training step as constants, so no step can change them and no
checkpoint holds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from effarch.errors import UserError
from effarch.infrastructure.data import Dataset, decode
from effarch.infrastructure.training import Batch, Technique

_BATCH_SIZE = 500


@dataclasses.dataclass(frozen=True)
class Taught(Technique):
  """A technique with a teacher.

  Args:
    teacher: the folder of a finished run, a model, or a function from inputs
      to logits, whose own arrays become part of the program; or several of
      these, whose probabilities are averaged.
    load: makes a run folder's model; a trial gives it.
  """

  teacher: Any
  load: Callable[[str], nnx.Module] | None = dataclasses.field(
    default=None, repr=False
  )

  def __post_init__(self):
    given = self.teacher
    several = isinstance(given, list | tuple)
    teachers = tuple(given) if several else (given,)
    object.__setattr__(self, "teacher", teachers)
    if not teachers:
      raise ValueError("teacher: there is none")
    for each in teachers:
      if not callable(each) and not isinstance(each, str):
        raise ValueError(f"teacher: {each!r} is no folder, model or function")
      if isinstance(each, str) and self.load is None:
        raise ValueError(f"teacher: {each!r} is a folder, which load must read")

  @property
  def name(self) -> str:
    """What the constants are called; equal teachers share it."""
    names = [
      each if isinstance(each, str) else f"{type(each).__name__} at {id(each)}"
      for each in self.teacher
    ]
    return f"taught by {', '.join(names)}"

  def teachers(self) -> tuple[Callable[[Any], Any], ...]:
    """Returns models in evaluation mode, and functions, all of them trees.

    Raises:
      UserError: a folder holds no finished run.
    """
    return tuple(map(self._teacher, self.teacher))

  def _teacher(self, given):
    if isinstance(given, str):
      assert self.load is not None
      model = self.load(given)
    elif isinstance(given, nnx.Module):
      model = nnx.clone(given)
    else:
      return jax.tree_util.Partial(given)
    model.eval()
    return model

  def constants(self, train: Dataset) -> dict[str, Any]:
    """Returns the teachers."""
    del train
    return {self.name: self.teachers()}


@dataclasses.dataclass(frozen=True)
class TaughtLogits(Taught):
  """A technique whose teacher gives logits.

  Args:
    cached: asks the teacher once about each training example, as the data has
      it, instead of at each step about what the student sees ("patient and
      consistent", arXiv:2106.05237). Not for mixed examples.
  """

  cached: bool = False

  @property
  def name(self) -> str:
    return f"what is {super().name} once" if self.cached else super().name

  def constants(self, train: Dataset) -> dict[str, Any]:
    """Returns the teachers, or their logits for all examples."""
    if not self.cached:
      return super().constants(train)
    say, teachers = jax.jit(averaged), self.teachers()
    parts = [
      np.asarray(say(teachers, decode(train.inputs[start:][:_BATCH_SIZE])))
      for start in range(0, len(train), _BATCH_SIZE)
    ]
    return {self.name: np.concatenate(parts)}

  def logits(self, batch: Batch) -> Float[Array, "B *T K"]:
    """Returns what the teacher says of a batch in training.

    Raises:
      UserError: the teacher has other classes.
    """
    found = batch["constants"][self.name]
    if self.cached:
      found = found[batch["index"]]
      if found.ndim > 2:  # Of tokens, those of the batch's bucket.
        found = found[:, : batch["labels"].shape[1]]
    else:
      found = averaged(found, batch["inputs"])
    if found.shape != batch["labels"].shape:
      raise UserError(
        f"config.techniques.teacher: gives {found.shape[1:]} numbers for an "
        f"example that has {batch['labels'].shape[1:]} classes"
      )
    return jax.lax.stop_gradient(found)


def averaged(
  teachers: Sequence[Callable[[Any], Any]], inputs: Any
) -> Float[Array, "B *T K"]:
  """Returns a teacher's logits; of several the logarithm of mean probabilities.

  Args:
    teachers: in evaluation mode.
    inputs: a batch.
  """
  logits = [jnp.asarray(each(inputs), jnp.float32) for each in teachers]
  if len(logits) == 1:
    return logits[0]
  log_p = jax.nn.log_softmax(jnp.stack(logits))
  return jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(logits))
