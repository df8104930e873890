"""What numbers of techniques may be."""

from __future__ import annotations

import operator

_LEAST = {"[": operator.ge, "(": operator.gt}
_MOST = {"]": operator.le, ")": operator.lt}


def check_within(interval: str, **values: float | int) -> None:
  """Refuses numbers that are not in an interval.

  Args:
    interval: such as `"[0, 1)"` or `"(0, inf)"`.
    **values: by name.

  Raises:
    ValueError: one is outside, or NaN.
  """
  least, most = map(float, interval[1:-1].split(","))
  for name, value in values.items():
    above = _LEAST[interval[0]](value, least)
    if not above or not _MOST[interval[-1]](value, most):
      raise ValueError(f"{name}: {value} is not in {interval}")
