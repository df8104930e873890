"""What a comparison's runs say: means, spreads, and what is but noise.

Runs of one seed begin with the same weights and see examples in the same order,
so arms are compared seed by seed, by Student's paired t-test. Its p-values are
not corrected for the number of arms.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

PLAIN = "plain"
EPOCHS, TIME = "equal epochs", "equal time"
BETTER, WORSE = "better", "worse"
NOISE, UNTESTED = "within the noise", "one seed"
_LEVEL = 0.05
# Accuracies nearer than this differ by rounding.
_SAME = 1e-9
_HEADS = (
  *("arm", "epochs", "accuracy, %", "against plain", "95 % interval"),
  *("p", "verdict", "steps", "of plain's"),
)
_TEXTS = ("arm", "verdict")


def judge(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns each arm's numbers within each budget.

  Args:
    runs: each with `arm`, `seed`, `epochs`, `budgets` that it counts in,
      `test/accuracy` and `seconds`; every arm from every seed, plain too.

  Returns:
    Rows of `budget`, `arm`, `epochs`; `accuracy`, the mean over the seeds, and
    `deviation`, the standard one of a sample, `None` of one seed; `seconds`,
    the median, and `seconds_ratio` to plain's; and, but for plain, what
    `paired` gives.
  """
  rows = []
  # In this order within each budget, whichever runs came first.
  names = dict.fromkeys(run["arm"] for run in runs)
  for budget in dict.fromkeys(b for run in runs for b in run["budgets"]):
    counted = [run for run in runs if budget in run["budgets"]]
    arms = {
      name: {run["seed"]: run for run in counted if run["arm"] == name}
      for name in names
    }
    for name, found in arms.items():
      plain = arms[PLAIN]
      pairs = [
        (found[seed]["test/accuracy"], plain[seed]["test/accuracy"])
        for seed in plain
      ]
      own = [accuracy for accuracy, _ in pairs]
      seconds, usual = (
        statistics.median(run["seconds"] for run in each.values())
        for each in (found, plain)
      )
      rows.append(
        {
          "budget": budget,
          "arm": name,
          "epochs": next(iter(found.values()))["epochs"],
          "accuracy": statistics.fmean(own),
          "deviation": statistics.stdev(own) if len(own) > 1 else None,
          "seconds": seconds,
          "seconds_ratio": seconds / usual,
          **(paired(pairs) if name != PLAIN else {}),
        }
      )
  return rows


def paired(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
  """Returns what a paired t-test says of an arm's accuracies and plain's.

  Args:
    pairs: the two of each seed.

  Returns:
    `difference`, the mean of the arm's less plain's; its 95 % `interval` and
    `p_value`, `None` of one seed; and `verdict`, `"better"` or `"worse"` where
    p is below 0.05, else `"within the noise"`, or `"one seed"`. Of differences
    that are all the same p is 1 if they are zero, and 0 if not, its limit.
  """
  own, plain = np.array(pairs, np.float64).T
  differences = own - plain
  mean = float(differences.mean())
  if len(pairs) == 1:
    nothing = {"interval": None, "p_value": None}
    return {"difference": mean, **nothing, "verdict": UNTESTED}
  if np.ptp(differences) < _SAME:  # The test would divide by it.
    low = high = mean
    p_value = float(abs(mean) < _SAME)
  else:
    test: Any = stats.ttest_rel(own, plain)
    low, high = map(float, test.confidence_interval(1 - _LEVEL))
    p_value = float(test.pvalue)
  verdict = NOISE
  if p_value < _LEVEL:
    verdict = BETTER if mean > 0 else WORSE
  return {
    "difference": mean,
    "interval": [low, high],
    "p_value": p_value,
    "verdict": verdict,
  }


def show(record: Mapping[str, Any], console: Console) -> None:
  """Prints a record's verdicts, with what noise hides dimmed, and notes."""
  for budget, rows in _by_budget(record).items():
    table = Table(title=f"At {budget}", title_justify="left")
    for head in _HEADS:
      table.add_column(head, justify="left" if head in _TEXTS else "right")
    for row in rows:
      hidden = row.get("verdict") in (NOISE, UNTESTED)
      table.add_row(*_cells(row), style="dim" if hidden else "")
    console.print(table)
  for note in _notes(record):
    console.print(note, highlight=False, markup=False)


def markdown(record: Mapping[str, Any]) -> str:
  """Returns verdicts as Markdown: a table for each budget, and notes.

  Args:
    record: what `comparison.json` holds.
  """
  rules = ["---" if head in _TEXTS else "---:" for head in _HEADS]
  parts = []
  for budget, rows in _by_budget(record).items():
    lines = [_HEADS, rules, *map(_cells, rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    parts += [f"At {budget}:", table]
  return "\n\n".join([*parts, *_notes(record)])


def _by_budget(record: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  found: dict[str, list[dict[str, Any]]] = {}
  for row in record["verdicts"]:
    found.setdefault(row["budget"], []).append(row)
  return found


def _cells(row: Mapping[str, Any]) -> list[str]:
  accuracy = f"{100 * row['accuracy']:.1f}"
  if row["deviation"] is not None:
    accuracy += f" ± {100 * row['deviation']:.1f}"
  against = ["–"] * 4
  if "verdict" in row:
    against[0] = f"{100 * row['difference']:+.1f}"
    against[3] = row["verdict"]
  if row.get("interval"):
    against[1] = " to ".join(f"{100 * end:+.1f}" for end in row["interval"])
    small = row["p_value"] < 0.001
    against[2] = "< 0.001" if small else f"{row['p_value']:.3f}"
  return [
    *(row["arm"], str(row["epochs"]), accuracy, *against),
    *(f"{row['seconds']:.1f} s", f"{row['seconds_ratio']:.2f}x"),
  ]


def _notes(record: Mapping[str, Any]) -> list[str]:
  runs = record["runs"]
  seeds, arms = ({run[key] for run in runs} for key in ("seed", "arm"))
  notes = []
  if len(seeds) > 1:
    notes.append(
      f"Means ± standard deviations of {len(seeds)} seeds; differences in "
      "percentage points, paired by seed; p of t-tests, not corrected for how "
      f"many there are ({len(arms) - 1} in a table)."
    )
  for each in record["teachers"]:
    notes.append(
      f"Teacher {each['arm']}: {100 * each['test/accuracy']:.1f} % test "
      f"accuracy, {each['params']:,} parameters, {each['seconds']:.1f} s of "
      f"steps in {each['epochs']} epochs, which no arm's time holds."
    )
  return notes
