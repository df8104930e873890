"""Test-time augmentation: one prediction from several views of an image."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.infrastructure.training import Technique
from effarch.learning.checks import check_within


class AveragedViews(nnx.Module):
  """The mean of a model's logits over views of each image.

  Args:
    model: from `B H W C` to `B K`.
    horizontal_flip: the mirrored image is a view too.
    shift: pixels that the image moves up, down, left and right, black moving
      in; 0 moves nothing.
  """

  def __init__(self, model: nnx.Module, horizontal_flip: bool, shift: int):
    self.model = model
    self.horizontal_flip = horizontal_flip
    self.shift = shift

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B K"]:
    views = [x]
    if self.shift:
      _, height, width, _ = x.shape
      margin = ((0, 0), (self.shift,) * 2, (self.shift,) * 2, (0, 0))
      padded = jnp.pad(x, margin, constant_values=-1.0)  # Black is -1.
      ways = ((0, 1), (2, 1), (1, 0), (1, 2))
      views += [
        padded[:, i : i + height, j : j + width]
        for i, j in ((a * self.shift, b * self.shift) for a, b in ways)
      ]
    if self.horizontal_flip:
      views += [view[:, :, ::-1] for view in views]
    logits = self.model(jnp.concatenate(views))  # pyright: ignore
    return logits.reshape(len(views), len(x), -1).mean(0)


@dataclasses.dataclass(frozen=True)
class TestTimeAugmentation(Technique):
  """Ships a model that looks at an image in several ways.

  Training and validation have the plain model. What ships costs as many times
  as much as there are views: two, five times as many with shifts. List it last.

  Args:
    horizontal_flip: the mirrored image is a view too.
    shift: pixels that the image moves each way; 0 moves nothing.
  """

  horizontal_flip: bool = True
  shift: int = 0

  def __post_init__(self):
    check_within("[0, inf)", shift=self.shift)

  def finish(self, model: nnx.Module) -> nnx.Module:
    if not self.horizontal_flip and not self.shift:
      return model
    wrapped = AveragedViews(model, self.horizontal_flip, self.shift)
    wrapped.eval()
    return wrapped
