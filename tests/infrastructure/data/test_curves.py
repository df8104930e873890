import numpy as np
import pytest

from effarch.infrastructure.data.curves import NOWHERE, SIDE, UNIT, Curves

LENGTHS = (9, 9, 3, 3, 3, 3)
STARTS = np.cumsum(LENGTHS) - LENGTHS


@pytest.fixture(scope="module")
def drawn():
  """The tips of each curve of each image, `C` lists of `D 2 2`."""
  curves = Curves(np.random.RandomState(0), 64, LENGTHS)
  growing = np.arange(64)
  for step in range(200):
    curves.grow_long(growing, step % 2)
    whole = growing[curves.are_whole(growing)]
    clear = curves.are_clear(whole)
    curves.regrow_long(whole[~clear])
    growing = np.setdiff1d(growing, whole[clear])
  curves.keep(np.setdiff1d(np.arange(64), growing))
  curves.grow_short(8)
  tips = curves.tips.transpose(3, 2, 1, 0).astype(float)
  assert len(tips) > 50
  return [
    [
      image[start : start + length]
      for start, length in zip(STARTS, LENGTHS, strict=True)
    ]
    for image in tips
  ]


def placed(image):
  return [curve for curve in image if curve.max() > NOWHERE]


def along(curve):
  """Points of a curve, gaps and all, an eighth of a unit apart or less."""
  tips = curve.reshape(-1, 2)
  parts = np.linspace(0, 1, 17)[:, None, None]
  return (tips[:-1] * (1 - parts) + tips[1:] * parts).reshape(-1, 2)


def angle(one, other):
  """The turn from one way to another, in degrees."""
  cross = one[0] * other[1] - one[1] * other[0]
  return np.degrees(np.arctan2(abs(cross), one @ other))


def least(one, other):
  return np.linalg.norm(one[:, None] - other, axis=-1).min() / UNIT


def test_long_curves_are_whole_and_short_ones_whole_or_absent(drawn):
  for image in drawn:
    assert all((curve > NOWHERE).all() for curve in image[:2])
    for curve in image[2:]:
      assert (curve > NOWHERE).all() or (curve == NOWHERE).all()
  # Most find room beside curves of this length.
  assert np.mean([len(placed(image)) for image in drawn]) > 5


def test_dashes_and_gaps_are_of_one_length_and_turns_are_smooth(drawn):
  for image in drawn:
    for curve in placed(image):
      dashes = (curve[:, 1] - curve[:, 0]) / UNIT
      gaps = (curve[1:, 0] - curve[:-1, 1]) / UNIT
      np.testing.assert_allclose(np.linalg.norm(dashes, axis=1), 2, atol=0.03)
      np.testing.assert_allclose(np.linalg.norm(gaps, axis=1), 1.125, atol=0.03)
      for before, gap, after in zip(dashes[:-1], gaps, dashes[1:], strict=True):
        assert angle(before, after) < 69
        assert max(angle(before, gap), angle(gap, after)) < 36


def test_curves_stay_in_the_image_and_away_from_each_other(drawn):
  for image in drawn:
    curves = placed(image)
    for number, curve in enumerate(curves):
      assert curve.min() >= 2 * UNIT
      assert curve.max() < SIDE - 2 * UNIT
      for other in curves[:number]:
        assert least(along(curve), along(other)) >= 3.8


def test_a_curve_does_not_come_back_to_itself(drawn):
  for image in drawn:
    for curve in placed(image):
      for number in range(2, len(curve)):
        assert least(curve[number], curve[: number - 1].reshape(-1, 2)) >= 3.9


def test_all_ends_of_long_curves_have_room_for_a_disc(drawn):
  for image in drawn:
    ends = [curve.reshape(-1, 2)[[0, -1]] for curve in image[:2]]
    for one in (0, 1):
      assert least(ends[one][:1], ends[one][1:]) >= 6.4
      assert least(ends[one], ends[1 - one]) >= 6.4
      for number, curve in enumerate(image):
        if number != one and curve.max() > NOWHERE:
          assert least(ends[one], curve.reshape(-1, 2)) >= 5.18


def test_a_curve_that_is_stuck_goes_on_from_its_other_end():
  curves = Curves(np.random.RandomState(0), 128, (12, 12))
  growing = np.arange(128)
  for step in range(100):
    curves.grow_long(growing, step % 2)
    growing = growing[~curves.are_whole(growing)]
  # From one end alone, 60 % come as far.
  assert len(growing) < 0.3 * 128
