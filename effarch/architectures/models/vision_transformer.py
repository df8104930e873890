"""The vision transformer: patches of an image as tokens (arXiv:2010.11929).

Axes: `B` batch, `H W` height and width, `D` channels of an image, `P` patch,
`C` channels, `K` classes; `T = H W / P^2` tokens.
Parameters and MACs: those of an encoder of `T` tokens with `P^2 D` channels.
"""

from __future__ import annotations

from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.models.transformer import Encoder


class VisionTransformer(Encoder):
  """A class for each image.

  Args:
    input_shape: `(H, W, D)`.
    num_classes: `K`.
    patch_size: `P`, which divides `H` and `W`.
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
    patch_size: int = 4,
    rngs: nnx.Rngs,
    **arguments: Any,
  ):
    if len(input_shape) != 3:
      raise ValueError(f"input_shape: {input_shape} is not H W D")
    height, width, channels = input_shape
    if patch_size < 1 or height % patch_size or width % patch_size:
      raise ValueError(
        f"patch_size: {patch_size} divides not {height} x {width} pixels"
      )
    self.patch_size = patch_size
    tokens = height * width // patch_size**2, patch_size**2 * channels
    super().__init__(tokens, num_classes, rngs=rngs, **arguments)

  def __call__(self, x: Float[Array, "B H W D"]) -> Float[Array, "B K"]:
    batch, height, width, channels = x.shape
    size = self.patch_size
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    x = x.swapaxes(2, 3)
    return super().__call__(x.reshape(batch, -1, size * size * channels))
