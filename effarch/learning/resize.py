"""Progressive resizing: small images first (arXiv:1707.02921, 2104.00298)."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from effarch.errors import UserError
from effarch.infrastructure.training import GradientFn, Technique
from effarch.learning.checks import check_within


@dataclasses.dataclass(frozen=True)
class ProgressiveResizing(Technique):
  """Trains on images that grow to their full size, in equal stages.

  The step has a branch for each size, of which one runs; it takes the longer to
  compile. It needs a model that takes images of any size. On CPUs, where XLA
  computes some convolutions inside branches slowly, it saves nothing.

  Args:
    first: in (0, 1]; the sides of the first stage's images, of their full
      length. 1 changes nothing.
    stages: of smaller images, with sides in even steps.
    until: in (0, 1]; the share of the training before the full size.
  """

  first: float = 0.5
  stages: int = 2
  until: float = 0.6

  def __post_init__(self):
    check_within("(0, 1]", first=self.first)
    check_within("[1, inf)", stages=self.stages)
    check_within("(0, 1]", until=self.until)

  def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
    """Returns the heights and widths of all stages, the last in full."""
    lengths = [
      self.first + (1 - self.first) * stage / self.stages
      for stage in range(self.stages + 1)
    ]
    return [
      (max(1, round(length * height)), max(1, round(length * width)))
      for length in lengths
    ]

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model as it is.

    Raises:
      UserError: it takes no smaller images.
    """
    if self.first == 1:
      return model
    if len(example.shape) != 4:
      raise UserError(
        "config.techniques.name: progressive_resizing is of images, which "
        "config.data has not"
      )
    for size in self.sizes(*example.shape[1:3])[:-1]:
      shape = (example.shape[0], *size, example.shape[3])
      try:
        nnx.eval_shape(
          lambda model, x: model(x),
          model,
          jax.ShapeDtypeStruct(shape, example.dtype),
        )
      except (TypeError, ValueError) as error:
        raise UserError(
          f"config.techniques.first: the model takes no images of {size[0]} x "
          f"{size[1]}"
        ) from error
    return model

  def gradient(self, gradient_fn: GradientFn) -> GradientFn:
    if self.first == 1:
      return gradient_fn

    def resized(params, batch):
      images = batch["inputs"]

      def at(size):
        shape = (len(images), *size, images.shape[-1])
        small = jax.image.resize(images, shape, "linear")
        return gradient_fn(params, {**batch, "inputs": small})

      *smaller, _ = self.sizes(*images.shape[1:3])
      branches = [functools.partial(at, size) for size in smaller]
      branches.append(functools.partial(gradient_fn, params, batch))
      stage = (batch["progress"] / self.until * self.stages).astype(jnp.int32)
      return jax.lax.switch(jnp.minimum(stage, self.stages), branches)

    return resized
