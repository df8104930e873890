"""What bounds each module on this device: arithmetic or memory.

The roofline model (Williams, Waterman and Patterson, 2009): a program that
does F FLOPs and moves B bytes takes at least F / (FLOPs a second) and at
least B / (bytes a second); the larger of the two bounds it.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import rich.box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
  from effarch.infrastructure.cost.count import Cost
  from effarch.infrastructure.cost.report import Report

# Of a matrix, large enough that dispatch is nothing; a CPU is slower.
_SIDES = {"cpu": 2048}
_SHOWN = 20  # Lines of the table
_STREAMED_BYTES = 2**28  # Beyond any cache.


@dataclasses.dataclass(frozen=True)
class Ceilings:
  """The best that a device was seen to reach.

  Args:
    device: its name.
    dtype: of the matrix product.
    flops_per_second: of the product of two large square matrices.
    bytes_per_second: read and written while a large array is scaled in place.
  """

  device: str
  dtype: str
  flops_per_second: float
  bytes_per_second: float

  @property
  def ridge(self) -> float:
    """FLOPs a byte from which on arithmetic is what bounds."""
    return self.flops_per_second / self.bytes_per_second

  def least_seconds(self, cost: Cost) -> float:
    """Returns the time below which the device can't do this."""
    return max(
      cost.flops / self.flops_per_second, _moved(cost) / self.bytes_per_second
    )

  def bound(self, cost: Cost) -> str:
    """Returns what takes that time: `"compute"` or `"memory"`."""
    return "compute" if cost.intensity >= self.ridge else "memory"


@functools.cache
def ceilings(dtype: str = "float32", seconds: float = 1.0) -> Ceilings:
  """Measures the default device's ceilings, once in a process.

  Args:
    dtype: of the matrix product.
    seconds: spent on each of the two.
  """
  device = jax.devices()[0]
  side = _SIDES.get(device.platform, 8192)
  square = jnp.ones((side, side), dtype)
  product = jax.jit(jnp.matmul)
  matmul_seconds = _fastest(lambda: product(square, square), seconds)
  array = [jnp.ones(_STREAMED_BYTES // 4, jnp.float32)]
  scale = jax.jit(lambda x: x * 0.5, donate_argnums=0)

  def stream():
    array[0] = scale(array[0])
    return array[0]

  stream_seconds = _fastest(stream, seconds)
  return Ceilings(
    device.device_kind,
    dtype,
    2 * side**3 / matmul_seconds,
    2 * array[0].nbytes / stream_seconds,
  )


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a module lies under the ceilings.

  Args:
    path: of the module; what is within it is not counted here.
    intensity: FLOPs for each byte.
    least_us: microseconds below which the device can't do it.
    share: of the sum of all modules' `least_us`.
    bound: what takes that time, `"compute"` or `"memory"`.
  """

  path: str
  intensity: float
  least_us: float
  share: float
  bound: str


@dataclasses.dataclass(frozen=True)
class Roofline:
  """All modules of a report under a device's ceilings.

  Args:
    ceilings: of the device.
    places: of each module that does something itself.
    least_us: their sum: modules run one after the other.
    measured_us: the median latency, if it was measured.
  """

  ceilings: Ceilings
  places: tuple[Place, ...]
  least_us: float
  measured_us: float | None

  @classmethod
  def of(cls, report: Report, found: Ceilings) -> Roofline:
    """Places each module of a report."""
    own = {
      path: row.own
      for path, row in report.by_module.items()
      if row.own.flops or _moved(row.own)
    }
    least = {path: found.least_seconds(c) * 1e6 for path, c in own.items()}
    total = sum(least.values())
    places = tuple(
      Place(
        path,
        cost.intensity,
        least[path],
        least[path] / total,
        found.bound(cost),
      )
      for path, cost in own.items()
    )
    measured = report.latency.p50_us if "latency" in vars(report) else None
    return cls(found, places, total, measured)

  @property
  def bound(self) -> str:
    """What takes most of the least time."""
    memory = sum(
      place.share for place in self.places if place.bound == "memory"
    )
    return "memory" if memory > 0.5 else "compute"

  def __str__(self) -> str:
    found = self.ceilings
    table = Table(
      "module",
      "FLOPs a byte",
      "least us",
      "share",
      "bound",
      box=rich.box.SIMPLE_HEAD,
    )
    slowest = sorted(self.places, key=lambda place: -place.least_us)
    for place in slowest[:_SHOWN]:
      table.add_row(
        place.path or "(own)",
        f"{place.intensity:.2f}",
        f"{place.least_us:,.1f}",
        f"{place.share:.1%}",
        place.bound,
      )
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(table)
    kept = [line.rstrip() for line in out.getvalue().split("\n")]
    told = []
    if slowest[_SHOWN:]:
      rest = sum(place.share for place in slowest[_SHOWN:])
      told.append(f"  and {len(slowest) - _SHOWN} more, {rest:.1%}")
    told += [
      f"  {found.device}: {found.flops_per_second / 1e9:,.0f} GFLOP/s "
      f"({found.dtype} matrix product), {found.bytes_per_second / 1e9:,.1f} "
      f"GB/s; ridge at {found.ridge:.1f} FLOPs a byte",
      f"  bound by {self.bound}: {self.least_us:,.1f} us at least",
    ]
    if self.measured_us is not None:
      told.append(
        f"  measured {self.measured_us:,.1f} us: "
        f"{self.least_us / self.measured_us:.0%} of the ceilings"
      )
    return "\n".join([*filter(None, kept), *told])


def _fastest(call: Callable[[], jax.Array], seconds: float) -> float:
  """Returns the shortest time of a call, of as many as the seconds allow."""
  call().block_until_ready()
  best, until = float("inf"), time.perf_counter() + seconds
  while time.perf_counter() < until:
    start = time.perf_counter()
    call().block_until_ready()
    best = min(best, time.perf_counter() - start)
  return best


def _moved(cost: Cost) -> int:
  return cost.bytes_read + cost.bytes_written
