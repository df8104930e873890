"""Pathfinder: do two discs lie at the ends of one dashed curve?

Linsley et al., *Learning long-range spatial dependencies with horizontal
gated-recurrent units* (2018, arXiv:1805.08315), made the images; Long Range
Arena (Tay et al. 2020, arXiv:2011.04006) reads them pixel by pixel.

As in its hardest part, two long curves have 14 dashes, and short ones, which
distract, a third of these. With the image's 32nd part as unit, a dash is 2
long, the gap to the next 1.125, and tips of dashes that are not neighbours are
3.9 apart, so lines never come nearer than 3.8. A line is 1 to 1.9 pixels wide,
a disc's radius is 1 pixel and 1/64 of the image, about as in the Arena. There
curves come nearer to each other, so that not all can be told apart, gaps are
longer, and larger images have shorter curves for their size.

Where the discs lie does not give the class away: curves are drawn the same for
both, and of the images only those are taken that have a partner in the other
class, with its discs at about the same places and as far apart.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from effarch.infrastructure.data.curves import SIDE, UNIT, Curves
from effarch.infrastructure.data.dataset import Dataset
from effarch.infrastructure.data.generated import Generated

# How many images grow together, as fit a processor's cache.
_CHUNK = 256
# An image is given up where its long curves are not whole by then.
_STEPS_PER_DASH = 14
_TRIES_PER_SHORT_DASH = 6
# Discs lie alike if they are in the same of so many rows and columns, and as
# many such steps apart.
_CELLS = 6
_STEP = UNIT // 2
_GREY = 191
_WHITE = 255


@dataclasses.dataclass(frozen=True)
class Pathfinder(Generated):
  """Drawn images, half of them of each class.

  Args:
    size: height and width, a multiple of 16 from 32 to 256. It changes how
      fine the drawing is, and the curves' length in pixels with it.
    contour_length: how many dashes a long curve has, from 3 to 16; the Arena
      has 6 (easy), 9 and 14 (hard).
    num_distractors: how many short curves there are where all find room: of
      5, about 2 do beside curves of 14 dashes, all beside 6.
    **sizes: those of `Generated`; the Arena has 160,000 images, 20,000 and
      20,000.
  """

  size: int = 32
  contour_length: int = 14
  num_distractors: int = 5
  num_train: int = 40_000
  num_validation: int = 5_000
  num_test: int = 5_000

  class_names = ("apart", "connected")

  def __post_init__(self):
    super().__post_init__()
    if self.size not in range(32, 257, 16):
      raise ValueError(
        f"size: {self.size} is not a multiple of 16 from 32 to 256"
      )
    if not 3 <= self.contour_length <= 16:
      raise ValueError(
        f"contour_length: {self.contour_length} is not in [3, 16]"
      )
    if self.num_distractors < 0:
      raise ValueError(f"num_distractors: {self.num_distractors} is negative")

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Height, width, channels."""
    return (self.size, self.size, 1)

  def load(self, split: str) -> Dataset:
    """Returns one part, uint8 `N S S 1`."""
    wanted = self.num_examples(split)
    rng = self.random(split)
    images = np.zeros((wanted, *self.input_shape), np.uint8)
    labels = np.zeros(wanted, np.int32)
    count, waiting = 0, None
    while count < wanted:
      drawn = self._draw(rng)
      if waiting is not None:
        pairs = zip(waiting, drawn, strict=True)
        drawn = [np.concatenate(pair, -1) for pair in pairs]
      tips, discs, connected, codes = drawn
      paired = _have_partners(codes, connected)
      chosen = rng.permutation(np.flatnonzero(paired))[: wanted - count]
      new = slice(count, count + len(chosen))
      images[new, :, :, 0] = _paint(
        tips[..., chosen], discs[..., chosen], self.size
      )
      labels[new] = connected[chosen]
      count += len(chosen)
      waiting = [part[..., ~paired] for part in drawn]
    return Dataset(images, labels, self.class_names)

  def _draw(self, rng) -> list[np.ndarray]:
    """Returns dashes' tips `2 2 P n`, two discs `2 2 n`, labels and codes."""
    short = max(self.contour_length // 3, 1)
    lengths = (self.contour_length,) * 2 + (short,) * self.num_distractors
    curves = Curves(rng, _CHUNK, lengths)
    growing = np.arange(_CHUNK)
    for step in range(_STEPS_PER_DASH * self.contour_length):
      curves.grow_long(growing, step % 2)
      whole = growing[curves.are_whole(growing)]
      clear = curves.are_clear(whole)
      curves.regrow_long(whole[~clear])
      growing = np.setdiff1d(growing, whole[clear], assume_unique=True)
    curves.keep(np.setdiff1d(np.arange(_CHUNK), growing))
    curves.grow_short(_TRIES_PER_SHORT_DASH)
    count = curves.tips.shape[-1]
    connected, curve, end, other_end = rng.randint(0, 2, (4, count))
    other = np.where(connected, curve, 1 - curve)
    other_end = np.where(connected, 1 - end, other_end)
    chosen = np.stack([curve, other]), np.stack([end, other_end])
    discs = curves.ends(np.arange(count))[:, *chosen, np.arange(count)]
    return [curves.tips, discs, connected, _code(discs)]


def _code(discs: np.ndarray) -> np.ndarray:
  """Returns numbers that are the same where discs lie alike, `n`.

  So they do if they are equally far apart, and in the same cells or, when the
  image is mirrored or turned, come to lie there.
  """
  apart = discs[:, 0] - discs[:, 1]
  # A square root is rounded correctly, so the same, on every machine.
  steps = (np.sqrt((apart * apart).sum(0)) // _STEP).astype(np.int64)
  cells = (discs * _CELLS // SIDE).astype(np.int64)
  codes = []
  for y, x in (cells, cells[::-1]):
    for rows in (y, _CELLS - 1 - y):
      for columns in (x, _CELLS - 1 - x):
        one, other = rows * _CELLS + columns
        codes += [one * _CELLS**2 + other, other * _CELLS**2 + one]
  return np.min(codes, 0) * (2 * SIDE // _STEP) + steps


def _have_partners(codes: np.ndarray, connected: np.ndarray) -> np.ndarray:
  """Returns which images are chosen: of each code, as many of both classes."""
  # The number of an image among those of its class and code.
  order = np.lexsort((connected, codes))
  group = 2 * codes[order] + connected[order]
  number = np.zeros(len(codes), np.int64)
  number[order] = np.arange(len(codes)) - np.searchsorted(group, group)
  name = codes * len(codes) + number
  both = np.intersect1d(name[connected == 0], name[connected == 1])
  return np.isin(name, both)


def _paint(tips: np.ndarray, discs: np.ndarray, size: int) -> np.ndarray:
  """Returns grey dashes and white discs on black, `n S S`.

  All is in 64ths of a pixel. Edges are as grey as the part of a pixel that
  they cover, nearly.
  """
  images = np.zeros((tips.shape[-1], size, size), np.uint8)
  tips, discs = (
    points.astype(np.int32) * size // 32 for points in (tips, discs)
  )
  length, thickness = 4 * size, 56 + size // 4
  for begin, end in np.moveaxis(tips, 2, 0).transpose(0, 2, 1, 3):
    at = np.flatnonzero(begin[0] >= 0)
    begin, end = begin[:, at], end[:, at]
    y, x, offset = _patch((begin + end) // 2, (length + thickness + 154) // 128)
    way = (end - begin)[:, :, None, None]
    along = (offset[0] * way[0] + offset[1] * way[1]) // length
    across = (offset[0] * way[1] - offset[1] * way[0]) // length
    cover = _cover(along, length) * _cover(across, thickness)
    _brighten(images, at, y, x, _GREY * cover // 64**2)
  radius = 64 + size
  for disc in discs.transpose(1, 0, 2):
    y, x, offset = _patch(disc, (radius + 64) // 64)
    full = 128 * radius
    away = (radius + 32) ** 2 - (offset[0] ** 2 + offset[1] ** 2)
    value = _WHITE * np.clip(away, 0, full) // full
    _brighten(images, np.arange(len(images)), y, x, value)
  return images


def _patch(middle, reach) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
  """Returns rows, columns and distances of the pixels around `middle`."""
  y, x = (
    point[:, None] // 64 + np.arange(-reach, reach + 1) for point in middle
  )
  y, x = y[:, :, None], x[:, None]
  offset = [
    64 * pixel + 32 - point[:, None, None]
    for pixel, point in zip((y, x), middle, strict=True)
  ]
  return y, x, offset


def _cover(distance, width) -> np.ndarray:
  """Returns how many 64ths of a pixel lie within half the width."""
  return np.clip(width // 2 + 32 - np.abs(distance), 0, 64)


def _brighten(images, at, y, x, value) -> None:
  pixels = (at[:, None, None], y, x)
  images[pixels] = np.maximum(images[pixels], value.astype(np.uint8))
