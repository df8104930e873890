"""Dashed curves that grow in many images at once and keep their distance.

A unit is the 32nd part of an image's side, and points are in 64ths of a unit.
They are whole numbers, which float32 holds exactly, so that every machine
grows the same curves.

Axis legend: `N` images, `P` places for dashes, `K` proposals. The first axis
of points is y, x; the second of `tips` is where a dash begins and ends.
"""

from __future__ import annotations

import numpy as np

UNIT = 64
SIDE = 32 * UNIT
# What fills a place that has no dash: farther than any clearance.
NOWHERE = -16 * SIDE
_DASH = 2 * UNIT
_GAP = 72
# From each tip of a dash to those of all dashes but its neighbours. Tips of a
# curve are at most a dash apart, so lines stay 3.8 units away from each other.
_CLEARANCE = 252
# What the ends of long curves keep besides, since a disc may lie there.
_ROOM_FOR_DISC = 80
_BORDER = 2 * UNIT

_WAYS = 128
# A dash turns by the sum of two draws from -6 to 6, each twice 1/128 turn: at
# most 68 degrees, half of them in the gap.
_MAX_TURN = 6
_PROPOSALS = 6
# How many dashes a curve that has no room to go on loses, one drawn of these.
_LOSSES = np.array([1] * 8 + [2] * 5 + [4] * 2 + [6])

# Rounded, since the last bit of a sine is not the same on every machine.
_ANGLES = np.arange(_WAYS) * (2 * np.pi / _WAYS)
_DASHES, _GAPS = (
  np.round(length * np.stack([np.sin(_ANGLES), np.cos(_ANGLES)]))
  for length in (_DASH, _GAP)
)


class Curves:
  """Two long curves in each image, then short ones where there is room.

  Args:
    rng: draws everything.
    num_images: `N`.
    lengths: how many dashes each curve has; the first two are the long ones,
      of one length.

  Attributes:
    tips: `2 2 P N`, of the dashes, or `NOWHERE`; curve after curve.
  """

  def __init__(
    self,
    rng: np.random.RandomState,
    num_images: int,
    lengths: tuple[int, ...],
  ):
    self._rng = rng
    self._lengths = np.array(lengths)
    self._starts = np.cumsum(self._lengths) - self._lengths
    places = sum(lengths)
    self._clear = np.full((2, places, 1), _CLEARANCE**2, np.float32)
    self._counts = np.zeros((len(lengths), num_images), np.int64)
    self._ways = np.zeros((places, num_images), np.int64)
    self.tips = np.full((2, 2, places, num_images), NOWHERE, np.float32)

  def keep(self, images: np.ndarray) -> None:
    """Goes on with the images at `images` alone."""
    self.tips = self.tips[..., images]
    self._ways = self._ways[:, images]
    self._counts = self._counts[:, images]

  def are_whole(self, images: np.ndarray) -> np.ndarray:
    """Returns which of `images` have all dashes of both long curves."""
    return (self._counts[:2, images] == self._lengths[0]).all(0)

  def ends(self, images: np.ndarray) -> np.ndarray:
    """Returns the ends of the long curves, `2 2 2 n`.

    The second axis is the curve, the third where it begins and ends.
    """
    first = self._starts[:2, None]
    last = first + self._lengths[0] - 1
    begin, end = self.tips[:, 0, first, images], self.tips[:, 1, last, images]
    return np.stack([begin, end], 2)

  def are_clear(self, images: np.ndarray) -> np.ndarray:
    """Returns in which of `images` the long curves' ends have room for discs.

    An end then is farther from the other curve than lines are, and from the
    other ends twice so.
    """
    ends = self.ends(images)
    length = self._lengths[0]
    points = ends.reshape(2, 4, -1)
    apart = _squares(points[:, :, None] - points[:, None])
    apart[range(4), range(4)] = NOWHERE**2
    clear = np.ones(len(images), bool)
    clear &= (apart >= (_CLEARANCE + 2 * _ROOM_FOR_DISC) ** 2).all((0, 1))
    for curve in (0, 1):
      other = self.tips[:, :, (1 - curve) * length :, images][:, :, :length]
      for end in (0, 1):
        away = _squares(ends[:, curve, end][:, None, None] - other)
        clear &= (away >= (_CLEARANCE + _ROOM_FOR_DISC) ** 2).all((0, 1))
    return clear

  def grow_long(self, images: np.ndarray, turn: int) -> None:
    """Adds a dash to the long curve `turn`, or the other where that is whole.

    A curve without room to go on loses dashes instead.
    """
    whole = self._counts[turn, images] == self._lengths[0]
    self._grow(images, np.where(whole, 1 - turn, turn))

  def regrow_long(self, images: np.ndarray) -> None:
    """Takes one or two dashes from one of the long curves."""
    curve = self._rng.randint(0, 2, len(images))
    self._shorten(images, curve, self._rng.randint(1, 3, len(images)))

  def grow_short(self, tries: int) -> None:
    """Adds the short curves one after the other.

    Args:
      tries: for each dash; a curve that is not whole after them is left out.
    """
    # The ends that may have discs are at the same places in every image.
    length = self._lengths[0]
    room = (_CLEARANCE + _ROOM_FOR_DISC) ** 2
    self._clear[0, [0, length]] = self._clear[
      1, [length - 1, 2 * length - 1]
    ] = room
    for number in range(2, len(self._lengths)):
      for _ in range(tries * self._lengths[number]):
        images = self._unfinished(number)
        self._grow(images, np.full(len(images), number))
      images = self._unfinished(number)
      everything = np.full(len(images), self._lengths[number])
      self._shorten(images, np.full(len(images), number), everything)

  def _unfinished(self, number: int) -> np.ndarray:
    return np.flatnonzero(self._counts[number] < self._lengths[number])

  def _grow(self, images: np.ndarray, curve: np.ndarray) -> None:
    """Adds a dash to each image's curve, or takes some where none has room."""
    place = self._starts[curve] + self._counts[curve, images]
    tips, ways = self._propose(images, curve, place)
    inside = (tips >= _BORDER) & (tips < SIDE - _BORDER)
    fits = inside.all((0, 1)) & self._apart(tips, images, curve, place)
    chosen, found = fits.argmax(0), fits.any(0)
    at = np.flatnonzero(found)
    self.tips[:, :, place[at], images[at]] = tips[:, :, chosen[at], at]
    self._ways[place[at], images[at]] = ways[chosen[at], at]
    self._counts[curve[at], images[at]] += 1
    lost = _LOSSES[self._rng.randint(0, len(_LOSSES), len(images))]
    self._shorten(images[~found], curve[~found], lost[~found])

  def _propose(self, images, curve, place) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tips `2 2 K n` and ways `K n` of dashes that may come."""
    shape = (_PROPOSALS, len(images))
    turns = self._rng.randint(-_MAX_TURN, _MAX_TURN + 1, (2, *shape)).sum(0)
    before = self._ways[place - 1, images]
    ways = (before + 2 * turns) % _WAYS
    gaps = _GAPS[:, (before + turns) % _WAYS]
    begin = self.tips[:, 1, place - 1, images][:, None] + gaps
    new = np.flatnonzero(self._counts[curve, images] == 0)
    shape = (_PROPOSALS, len(new))
    ways[:, new] = self._rng.randint(0, _WAYS, shape)
    begin[:, :, new] = self._rng.randint(_BORDER, SIDE - _BORDER, (2, *shape))
    tips = np.stack([begin, begin + _DASHES[:, ways]], 1)
    return tips.astype(np.float32), ways

  def _apart(self, tips, images, curve, place) -> np.ndarray:
    """Returns which proposals keep the distance, `K n`."""
    number = curve.max(initial=1)  # Both long curves have grown before.
    limit = self._starts[number] + self._lengths[number]
    others = self.tips[:, :, :limit, images]
    before = np.flatnonzero(self._counts[curve, images])
    others[:, :, place[before] - 1, before] = NOWHERE
    apart = np.ones(tips.shape[2:], bool)
    for mine in (0, 1):
      for theirs in (0, 1):
        away = _squares(tips[:, mine, :, None] - others[:, theirs, None])
        apart &= (away >= self._clear[theirs, :limit]).all(1)
    return apart

  def _shorten(self, images, curve, by) -> None:
    """Takes `by` dashes from the end where each image's curve grows.

    What is left goes on from either end, by lot.
    """
    left = np.maximum(self._counts[curve, images] - by, 0)
    self._counts[curve, images] = left
    steps = np.arange(self._lengths[curve].max(initial=0))[:, None]
    turned = self._rng.randint(0, 2, len(images)) == 1
    sources = np.where(turned & (steps < left), left - 1 - steps, steps)
    places, sources = self._starts[curve] + steps, self._starts[curve] + sources
    tips = self.tips[:, :, sources, images]
    tips = np.where(turned, tips[:, ::-1], tips)
    tips[:, :, steps >= left] = NOWHERE
    self.tips[:, :, places, images] = tips
    half = turned * (_WAYS // 2)
    self._ways[places, images] = (self._ways[sources, images] + half) % _WAYS


def _squares(points: np.ndarray) -> np.ndarray:
  """Returns `y y + x x` and uses `points` up."""
  points *= points
  points[0] += points[1]
  return points[0]
