"""What networks of convolutions that classify images share.

Axes: `B` batch, `H W` height and width, `C` channels, `K` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def scaled(features: int, width_multiplier: float, divisor: int = 1) -> int:
  """Returns channels times a width, as a multiple of `divisor`.

  The nearest one, but no less than nine tenths of what was asked for
  (MobileNetV2's code, arXiv:1801.04381).

  Raises:
    ValueError: the width is not in (0, 8].
  """
  if not 0 < width_multiplier <= 8:
    raise ValueError(f"width_multiplier: {width_multiplier} is not in (0, 8]")
  wanted = features * width_multiplier
  found = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
  return found if found >= 0.9 * wanted else found + divisor


def channels(input_shape: tuple[int, ...], in_features: int | None) -> int:
  """Returns the images' channels.

  Args:
    input_shape: `(H, W, C)`.
    in_features: `C`, where it is another.

  Raises:
    ValueError: images have another shape.
  """
  if len(input_shape) != 3 or min(input_shape) < 1:
    raise ValueError(f"input_shape: {input_shape} is not H W C")
  return in_features or input_shape[-1]


class Classifier(nnx.Module):
  """Layers, the mean over all places, a head, and a dense layer.

  Args:
    layers: one after the other, from images to `B H W C`.
    features: `D`.
    num_classes: `K`.
    head: from the mean, `B C`, to `B D`.
    dtype: of the computation.
    param_dtype: of the parameters.
    rngs: draws the dense layer's parameters.

  Raises:
    ValueError: there are no classes.
  """

  def __init__(
    self,
    layers: Sequence[Callable[[jax.Array], jax.Array]],
    features: int,
    num_classes: int,
    *,
    head: Sequence[Callable[[jax.Array], jax.Array]] = (),
    dtype: Any,
    param_dtype: Any,
    rngs: nnx.Rngs,
  ):
    if num_classes < 1:
      raise ValueError(f"num_classes: {num_classes} is not positive")
    self.layers = nnx.List(layers)
    self.head = nnx.List(head)
    self.classifier = nnx.Linear(
      features, num_classes, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B K"]:
    for layer in self.layers:
      x = layer(x)
    x = x.mean((1, 2))
    for layer in self.head:
      x = layer(x)
    return self.classifier(x).astype(jnp.float32)
