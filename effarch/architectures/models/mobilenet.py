"""MobileNets: separable convolutions (V1, arXiv:1704.04861), inverted
residuals (V2, arXiv:1801.04381).

Axes: `B` batch, `H W` height and width, `C` channels, `K` classes.
Parameters for 1,000 classes: V1 4,231,976, V2 3,504,872.
MACs at 224 x 224: V1 568,740,352, V2 300,774,272.
"""

from __future__ import annotations

import functools
from typing import Any

from flax import nnx

from effarch.architectures.convolution import ConvNorm, InvertedResidual
from effarch.architectures.models.classifier import (
  Classifier,
  channels,
  scaled,
)

# Channels, blocks and the first one's stride.
_V1 = (
  (64, 1, 1),
  (128, 2, 2),
  (256, 2, 2),
  (512, 6, 2),
  (1024, 2, 2),
)
# The same, after the expansion.
_V2 = (
  (1.0, 16, 1, 1),
  (6.0, 24, 2, 2),
  (6.0, 32, 3, 2),
  (6.0, 64, 4, 2),
  (6.0, 96, 3, 1),
  (6.0, 160, 3, 2),
  (6.0, 320, 1, 1),
)


class MobileNetV1(Classifier):
  """A convolution and thirteen separable ones, each step normalized.

  Args:
    input_shape: `(H, W, C)`.
    num_classes: `K`.
    in_features: `C`, if it is not that of `input_shape`.
    width_multiplier: of all channels, in (0, 8].
    stem: `"large"`, or `"small"` for images of 32 x 32: the first convolution
      and the first of the strided ones keep all places.
    dtype: of the computation.
    param_dtype: of the parameters.
    rngs: draws the initial parameters.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...] = (224, 224, 3),
    num_classes: int = 1000,
    *,
    in_features: int | None = None,
    width_multiplier: float = 1.0,
    stem: str = "large",
    dtype: Any = "float32",
    param_dtype: Any = "float32",
    rngs: nnx.Rngs,
  ):
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    make = functools.partial(ConvNorm, **common)
    size, small = scaled(32, width_multiplier), _is_small(stem)
    layers = [
      make(channels(input_shape, in_features), size, strides=1 if small else 2)
    ]
    for stage, (features, blocks, strides) in enumerate(_V1):
      wanted = scaled(features, width_multiplier)
      for index in range(blocks):
        step = 1 if index or (small and stage == 1) else strides
        layers += [
          make(size, size, strides=step, groups=size),
          make(size, wanted, (1, 1)),
        ]
        size = wanted
    super().__init__(layers, size, num_classes, **common)


class MobileNetV2(Classifier):
  """A convolution, seventeen inverted residuals, and 1,280 channels.

  Channels are multiples of eight; the last are no fewer in narrow networks.

  Args:
    input_shape: `(H, W, C)`.
    num_classes: `K`.
    in_features: `C`, if it is not that of `input_shape`.
    width_multiplier: of all channels, in (0, 8].
    stem: `"large"`, or `"small"` for images of 32 x 32: the first convolution
      and the first of the strided blocks keep all places.
    dtype: of the computation.
    param_dtype: of the parameters.
    rngs: draws the initial parameters.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...] = (224, 224, 3),
    num_classes: int = 1000,
    *,
    in_features: int | None = None,
    width_multiplier: float = 1.0,
    stem: str = "large",
    dtype: Any = "float32",
    param_dtype: Any = "float32",
    rngs: nnx.Rngs,
  ):
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    size, small = scaled(32, width_multiplier, 8), _is_small(stem)
    layers: list[Any] = [
      ConvNorm(
        *(channels(input_shape, in_features), size),
        strides=1 if small else 2,
        activation="relu6",
        **common,
      )
    ]
    for stage, (expansion, features, blocks, strides) in enumerate(_V2):
      wanted = scaled(features, width_multiplier, 8)
      for index in range(blocks):
        step = 1 if index or (small and stage == 1) else strides
        layers.append(
          InvertedResidual(
            size, wanted, strides=step, expansion=expansion, **common
          )
        )
        size = wanted
    wanted = scaled(1280, max(1.0, width_multiplier), 8)
    layers.append(ConvNorm(size, wanted, (1, 1), activation="relu6", **common))
    super().__init__(layers, wanted, num_classes, **common)


def _is_small(stem: str) -> bool:
  if stem not in ("large", "small"):
    raise ValueError(f"stem: {stem!r} is neither large nor small")
  return stem == "small"
