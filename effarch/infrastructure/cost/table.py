"""A report as the table that people know: a line for each module."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import rich.box
from rich.console import Console
from rich.table import Table

from effarch.infrastructure.cost.count import Cost, add

if TYPE_CHECKING:
  from effarch.infrastructure.cost.report import Report, Row


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of the table.

  Args:
    label: the module's name in the module it is in, `"blocks.0-11 x12"` for
      equal ones in a row.
    depth: how many modules it is in.
    row: the module; the first of equal ones.
    cost: what the line shows, for all of the equal ones together.
  """

  label: str
  depth: int
  row: Row
  cost: Cost


def text(report: Report) -> str:
  """Returns the table and what the whole costs, as text.

  Modules of one name, equal but for their number, share a line. A module's
  line holds all that is within it; what it does itself, beside the modules in
  it, is the line `(own)`: so the lines below one add up to it.
  """
  columns = dict(_columns(report))
  table = Table("module", "type", "output", "dtype", box=rich.box.SIMPLE_HEAD)
  for title in columns:
    table.add_column(title, justify="right")
  for line in lines(report):
    whole = line.label != "(own)"
    if not whole and all(
      _is_zero(show(line.cost)) for show in columns.values()
    ):
      continue
    table.add_row(
      "  " * line.depth + line.label,
      line.row.kind if whole else "",
      line.row.output if whole else "",
      line.row.dtype if whole else "",
      *(show(line.cost) for show in columns.values()),
    )
  out = io.StringIO()
  # Wide enough that nothing is ever cut: a terminal scrolls, or wraps.
  Console(file=out, width=10_000, highlight=False).print(table)
  kept = [line.rstrip() for line in out.getvalue().split("\n")]
  return "\n".join([*filter(None, kept), *_summary(report)])


def _is_zero(shown: str) -> bool:
  return not re.search("[1-9]", shown)


def lines(report: Report) -> list[Line]:
  """Returns the table's lines, equal modules folded into one."""
  children: dict[str, list[Row]] = {path: [] for path in report.by_module}
  for path in report.by_module:
    if path:
      children[_parent(path, children)].append(report.by_module[path])
  return list(_lines(report.by_module[""], "(whole)", 0, 1, children))


def _lines(
  row: Row, label: str, depth: int, times: int, children: dict[str, list[Row]]
) -> Iterator[Line]:
  yield Line(label, depth, row, add([row] * times))
  if not children[row.path]:
    return
  for group in _groups(row.path, children):
    label = _relative(group[0], row.path)
    if len(group) > 1:
      last = _numbered(_relative(group[-1], row.path))[1]
      label = f"{label}-{last} x{len(group)}"
    yield from _lines(group[0], label, depth + 1, times * len(group), children)
  if any(row.own.numbers().values()):
    yield Line("(own)", depth + 1, row, add([row.own] * times))


def _groups(path: str, children: dict[str, list[Row]]) -> list[list[Row]]:
  """Returns the modules in a module, consecutive equal ones together."""
  groups: list[list[Row]] = []
  for row in children[path]:
    prefix, number = _numbered(_relative(row, path))
    if groups and number is not None:
      before = groups[-1][-1]
      if _numbered(_relative(before, path)) == (prefix, number - 1) and (
        _shape(before, children) == _shape(row, children)
      ):
        groups[-1].append(row)
        continue
    groups.append([row])
  return groups


def _shape(row: Row, children: dict[str, list[Row]]) -> tuple:
  """Returns all that two equal modules have in common."""
  within = tuple(
    (_relative(child, row.path), _shape(child, children))
    for child in children[row.path]
  )
  numbers = tuple(row.numbers().values())
  return row.kind, row.output, row.dtype, numbers, row.own, within


def _numbered(name: str) -> tuple[str, int | None]:
  """Splits `"layers_3"` into `"layers_"` and 3."""
  found = re.fullmatch(r"(.*?)(\d+)", name)
  return (found[1], int(found[2])) if found else (name, None)


def _relative(row: Row, parent: str) -> str:
  return row.path.removeprefix(f"{parent}.") if parent else row.path


def _parent(path: str, modules: dict[str, list[Row]]) -> str:
  inner = path.rpartition(".")[0]
  return inner if inner in modules else _parent(inner, modules)


def _columns(report: Report) -> Iterator[tuple[str, Callable[[Cost], str]]]:
  def number(name: str) -> Callable[[Cost], str]:
    return lambda cost: f"{getattr(cost, name):,}"

  yield "params", number("params")
  yield "MACs", number("macs")
  yield "share", lambda cost: f"{cost.macs / max(1, report.macs):.1%}"
  if report.effective_macs != report.macs:
    yield "nonzero MACs", number("effective_macs")
  if report.stored_bytes != report.size_bytes:
    yield "BOPs", number("bit_operations")
    yield "stored", lambda cost: size(cost.stored_bytes)
  yield "FLOPs", number("flops")
  if report.train:
    yield "kept", lambda cost: size(cost.activation_bytes)


def _summary(report: Report) -> Iterator[str]:
  moved = report.bytes_read + report.bytes_written
  yield (
    f"  {report.params:,} parameters and {report.statistics:,} statistics: "
    f"{size(report.size_bytes)}"
  )
  yield (
    f"  {report.flops:,} FLOPs over {size(moved)} read and written: "
    f"{report.intensity:.1f} FLOPs a byte"
  )
  if report.train:
    yield (
      f"  {size(report.activation_bytes)} kept for the backward pass, "
      f"{size(report.optimizer_bytes)} of optimizer state"
    )
  if report.executable.is_compiled:
    yield (
      f"  compiled in {report.compile_seconds:.2f} s, allots "
      f"{size(report.peak_bytes)}"
    )
  if "latency" in vars(report):
    yield f"  latency {report.latency}"
  if report.unknown:
    names = ", ".join(f"{name} x{n}" for name, n in report.unknown.items())
    yield f"  not counted: {names}"


def size(number: int | float) -> str:
  """Returns bytes for people: 1 kB is 1,000 bytes."""
  power = 0
  while number >= 1000 and power < 4:
    number, power = number / 1000, power + 1
  return f"{number:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
