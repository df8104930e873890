"""The pixels of images as one sequence, row by row.

With grey CIFAR-10 this is the image task of Long Range Arena (Tay et al. 2020,
arXiv:2011.04006), with `Pathfinder` its two others.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from effarch.config import build
from effarch.infrastructure.data.dataset import Dataset, Source
from effarch.infrastructure.data.images import IMAGES

# The weights of red, green and blue in ITU-R BT.601, in thousandths.
_LUMA = (299, 587, 114)


@dataclasses.dataclass(frozen=True)
class PixelSequence(Source):
  """Images without their height and width.

  Args:
    source: a config of what has the images, by a name in `IMAGES`, as in
      `{"name": "cifar10", "path": "~/data"}`.
    grayscale: makes one grey value of red, green and blue.
    as_tokens: makes a token of each value, 1 to 256; colour without
      `grayscale` becomes three tokens, one after the other. Else a place of
      the sequence has one float for each channel.
  """

  source: dict[str, Any]
  grayscale: bool = True
  as_tokens: bool = True

  def __post_init__(self):
    _ = self._images  # A config that is wrong stops here.

  @functools.cached_property
  def _images(self) -> Source:
    return build(IMAGES, self.source, "source")

  @functools.cached_property
  def input_shape(self) -> tuple[int, ...]:
    """`(T,)` tokens, or `(T, C)` floats."""
    *area, channels = self._images.input_shape
    channels = 1 if self.grayscale else channels
    if self.as_tokens:
      return (math.prod(area) * channels,)
    return (math.prod(area), channels)

  @property
  def class_names(self) -> tuple[str, ...]:
    """Those of the images."""
    return self._images.class_names

  @property
  def vocab_size(self) -> int:
    """256 values and the padding, which no image has; 0 for floats."""
    return 257 if self.as_tokens else 0

  def load(self, split: str) -> Dataset:
    """Returns one part, as the source of the images splits them.

    Raises:
      UserError: the images are absent or damaged.
    """
    images = self._images.load(split)
    pixels = images.inputs
    if self.grayscale and pixels.shape[-1] == 3:
      pixels = _luma(pixels)
    pixels = pixels.reshape(len(pixels), *self.input_shape)
    if self.as_tokens:
      pixels = pixels.astype(np.int16) + 1
    return dataclasses.replace(images, inputs=pixels)


def _luma(pixels: np.ndarray) -> np.ndarray:
  """Returns the nearest whole grey of each pixel, uint8 `... 1`."""
  sums = np.full(pixels.shape[:-1], 500, np.int32)
  for channel, weight in enumerate(_LUMA):
    sums += np.multiply(pixels[..., channel], weight, dtype=np.int32)
  return (sums // 1000).astype(np.uint8)[..., None]
