"""ConvNeXt: 7x7 filters of single channels between normalizations.

*A ConvNet for the 2020s* (arXiv:2201.03545).

Axes: `B` batch, `H W` height and width, `C` channels, `K` classes.
Parameters of the tiny network for 1,000 classes: 28,589,128. MACs at 224 x 224:
4,455,531,264.
"""

from __future__ import annotations

from typing import Any

from flax import nnx

from effarch.architectures.convolution import Conv, ConvNeXtBlock
from effarch.architectures.models.classifier import (
  Classifier,
  channels,
  scaled,
)


class ConvNeXt(Classifier):
  """Patches, and stages of blocks with half the places each way.

  Args:
    input_shape: `(H, W, C)`.
    num_classes: `K`.
    in_features: `C`, if it is not that of `input_shape`.
    depths: blocks of each stage.
    features: channels of each stage.
    patch_size: places that the stem makes one of, each way; 1 or 2 for images
      of 32 x 32.
    kernel_size: of the blocks' filters, each way.
    version: of the blocks, see `ConvNeXtBlock`.
    width_multiplier: of all channels, in (0, 8].
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
    depths: tuple[int, ...] = (3, 3, 9, 3),
    features: tuple[int, ...] = (96, 192, 384, 768),
    patch_size: int = 4,
    kernel_size: int = 7,
    version: int = 1,
    width_multiplier: float = 1.0,
    dtype: Any = "float32",
    param_dtype: Any = "float32",
    rngs: nnx.Rngs,
  ):
    if len(depths) != len(features) or min((0, *depths)) < 0:
      raise ValueError(f"depths: {depths} is not one for each of {features}")
    if patch_size < 1:
      raise ValueError(f"patch_size: {patch_size} is not positive")
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}

    def norm(size: int) -> nnx.LayerNorm:
      return nnx.LayerNorm(size, epsilon=1e-6, **common)

    def patches(size: int, wanted: int, step: int) -> Conv:
      return Conv(
        size, wanted, (step, step), strides=step, padding="VALID", **common
      )

    sizes = [scaled(size, width_multiplier) for size in features]
    size = sizes[0]
    layers: list[Any] = [
      patches(channels(input_shape, in_features), size, patch_size),
      norm(size),
    ]
    for stage, (depth, wanted) in enumerate(zip(depths, sizes, strict=True)):
      if stage:
        layers += [norm(size), patches(size, wanted, 2)]
      layers += [
        ConvNeXtBlock(
          wanted, wanted, (kernel_size,) * 2, version=version, **common
        )
        for _ in range(depth)
      ]
      size = wanted
    super().__init__(layers, size, num_classes, head=[norm(size)], **common)
