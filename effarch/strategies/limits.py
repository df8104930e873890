"""Limits as users write them: `50 KB`, `150 us`, `size_bytes<=50_000`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from effarch.config import did_you_mean
from effarch.errors import UserError

# The columns that a bare unit means, by the ending of names of its kind.
_USUAL = {"bytes": "size_bytes", "us": "latency_us"}
_UNITS = {
  "bytes": {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
  },
  "us": {"": 1, "us": 1, "ns": 1e-3, "ms": 1e3, "s": 1e6},
  "seconds": {"": 1, "s": 1, "ms": 1e-3, "min": 60, "h": 3600},
  "count": {"": 1, "k": 10**3, "m": 10**6, "g": 10**9},
}
_AMOUNT = re.compile(r"([\d._]+(?:e[+-]?\d+)?)\s*([a-zµμ]*)", re.IGNORECASE)
_TIMES = re.compile(r"(\w+)\s*<=\s*(\d+\.?\d*|\.\d+)\s*x", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Limit:
  """At most so much of a column.

  Args:
    column: a footprint.
    most: in the column's own unit.
  """

  column: str
  most: int | float

  def __str__(self):
    return f"{self.column} <= {self.most:,}"


def is_limit(text: str) -> bool:
  """Whether a word of a command is meant as a limit, and not as a path."""
  amount = _AMOUNT.fullmatch(text.strip())
  return "<" in text or bool(amount and _usual(_unit(amount[2])))


def parse_limit(text: str) -> Limit:
  """Returns the limit that the text says.

  `COLUMN<=AMOUNT`, the amount with a unit or in the column's own: B, KB, MB,
  GB are powers of 1000 and KiB, MiB, GiB of 1024; ns, us or µs, ms, s, and for
  seconds min and h; of what is counted K, M, G. Case does not matter. The
  amount alone, with its unit, is of `size_bytes` or `latency_us`.

  Raises:
    UserError: it says no limit.
  """
  column, less, right = (part.strip() for part in text.partition("<="))
  if not less:
    column, right = "", text.strip()
  amount = _AMOUNT.fullmatch(right)
  if not amount or (less and not column):
    raise UserError(
      f"limit {text!r}: is none; write 50KB, 150us or 'COLUMN<=AMOUNT'"
    )
  unit = _unit(amount[2])
  if less:
    ending = column.rpartition("_")[2]
    kind = ending if ending in _UNITS else "count"
  else:
    kind = _usual(unit)
    if not kind:
      raise UserError(
        f"limit {text!r}: names neither column nor unit; write 50KB, 150us or "
        "'COLUMN<=AMOUNT'"
      )
    column = _USUAL[kind]
  units = _UNITS[kind]
  if unit not in units:
    raise UserError(
      f"limit {text!r}: {amount[2]!r} is no unit of {column}; choose from "
      f"{', '.join(filter(None, units))}"
    )
  try:
    number = float(amount[1])
  except ValueError:
    raise UserError(f"limit {text!r}: {amount[1]!r} is no number") from None
  if number <= 0:
    raise UserError(f"limit {text!r}: is not above 0")
  most = round(number * units[unit], 9)  # 2.01 KB are 2,010 bytes.
  return Limit(column, int(most) if most.is_integer() else most)


def told(limits: Sequence[Limit]) -> str:
  """Returns limits in words."""
  return " and ".join(map(str, limits))


def parse_limits(
  texts: Sequence[str], beside: Mapping[str, Any]
) -> tuple[Limit, ...]:
  """Returns limits, some of which are multiples of what something else costs.

  Args:
    texts: as of `parse_limit`, or `size_bytes<=0.25x`.
    beside: what multiples are of, by column.

  Raises:
    UserError: one is no limit, or there is nothing it could be a multiple of.
  """
  found = []
  for text in texts:
    times = _TIMES.fullmatch(text.strip())
    if not times:
      found.append(parse_limit(text))
    elif times[1] not in beside:
      hint = did_you_mean(times[1], beside)
      raise UserError(f"limit {text!r}: {times[1]!r} is unknown; {hint}")
    else:
      found.append(Limit(times[1], float(times[2]) * beside[times[1]]))
  return tuple(found)


def _usual(unit: str) -> str:
  """Returns the kind of a unit that stands alone; nothing if it is of none."""
  kinds = [kind for kind in _USUAL if unit and unit in _UNITS[kind]]
  return kinds[0] if kinds else ""


def _unit(text: str) -> str:
  # There are two of the Greek letter: micro, and mu.
  return re.sub("[µμ]", "u", text).lower()
