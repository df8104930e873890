"""What numbers of techniques may be."""

from __future__ import annotations


def check_share(name: str, value: float) -> None:
  """Refuses what is no share.

  Raises:
    ValueError: it is not in [0, 1].
  """
  if not 0 <= value <= 1:
    raise ValueError(f"{name}: {value} is not in [0, 1]")


def check_weight(name: str, value: float) -> None:
  """Refuses what rewards where it should punish.

  Raises:
    ValueError: it is negative.
  """
  if not value >= 0:
    raise ValueError(f"{name}: {value} is negative")


def check_positive(name: str, value: float) -> None:
  """Refuses what can't divide.

  Raises:
    ValueError: it is not positive.
  """
  if not value > 0:
    raise ValueError(f"{name}: {value} is not positive")
