"""The exam of cost reports."""

from __future__ import annotations

from effarch.infrastructure.cost import Report


def check_report(report: Report) -> None:
  """Examines that a cost report is complete, and its rows add up exactly.

  Args:
    report: what `measure` returned.
  """
  assert not report.unknown, f"primitives without a cost: {report.unknown}"
  rows = report.by_module
  for path, row in rows.items():
    within = f"{path}." if path else ""
    inner = [p for p in rows if p == path or p.startswith(within)]
    for name, number in row.numbers().items():
      total = sum(getattr(rows[p].own, name) for p in inner)
      assert number == total, f"{path}: {name} {number}, sum {total}"
  assert rows[""].numbers() == report.numbers(), "the whole is no sum"
