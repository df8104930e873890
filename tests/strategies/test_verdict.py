"""What differences between arms mean, by closed forms."""

import io
import math
import statistics

import pytest
from rich.console import Console

from effarch.strategies.verdict import judge, markdown, paired, show


def runs(**accuracies):
  """Rows of arms at equal epochs, whose steps take 4 s, plain's 2 s."""
  return [
    {
      "arm": arm,
      "seed": seed,
      "epochs": 10,
      "budgets": ["equal epochs"],
      "test/accuracy": accuracy,
      "seconds": 2.0 if arm == "plain" else 4.0,
    }
    for arm, each in accuracies.items()
    for seed, accuracy in enumerate(each)
  ]


def record(rows, teachers=()):
  return {"runs": rows, "verdicts": judge(rows), "teachers": list(teachers)}


def test_three_seeds_have_the_closed_form_of_two_degrees_of_freedom():
  plain, own = [0.5, 0.6, 0.4], [0.53, 0.65, 0.41]
  found = paired(list(zip(own, plain, strict=True)))
  # Student's t with two degrees of freedom: P(|T| > t) = 1 - t / sqrt(t² + 2),
  # and half of a thousand's 950 lie within t = 0.95 / sqrt(0.5 (1 - 0.95²)).
  error = statistics.stdev([0.03, 0.05, 0.01]) / math.sqrt(3)
  t = 0.03 / error
  assert found["difference"] == pytest.approx(0.03)
  assert found["p_value"] == pytest.approx(1 - t / math.sqrt(t * t + 2))
  reach = error * 0.95 / math.sqrt(0.5 * (1 - 0.95**2))
  assert found["interval"] == pytest.approx([0.03 - reach, 0.03 + reach])
  assert found["verdict"] == "within the noise"


def test_two_seeds_have_cauchys_closed_form():
  # One degree of freedom, and t = 3: the mean is 0.03, its error 0.01.
  found = paired([(0.54, 0.5), (0.62, 0.6)])
  assert found["p_value"] == pytest.approx(1 - 2 / math.pi * math.atan(3))


@pytest.mark.parametrize(
  ("differences", "verdict"),
  [
    ((0.040, 0.041, 0.042), "better"),
    ((-0.040, -0.041, -0.042), "worse"),
    ((0.040, -0.041, 0.042), "within the noise"),
    ((0.040, 0.001, 0.080), "within the noise"),
    # A difference of all seeds alike has no spread, but for rounding.
    ((0.0, 0.0, 0.0), "within the noise"),
    ((0.1, 0.1, 0.1), "better"),
    ((-0.1, -0.1, -0.1), "worse"),
    ((0.04,), "one seed"),
  ],
)
def test_verdict(differences, verdict):
  plain = (0.7, 0.3, 0.1)
  found = paired([(p + d, p) for p, d in zip(plain, differences, strict=False)])
  assert found["verdict"] == verdict
  if verdict == "one seed":
    assert found["p_value"] is found["interval"] is None
  else:
    low, high = found["interval"]
    assert low <= found["difference"] <= high
    assert (found["p_value"] < 0.05) == (verdict != "within the noise")
    # The interval has the verdict's answer too.
    assert (low <= 0 <= high) == (verdict == "within the noise")


def test_differences_are_those_of_a_seed():
  """Seeds differ by more than arms, and stand in another order."""
  rows = runs(plain=(0.1, 0.5, 0.9), sam=(0.12, 0.53, 0.91))
  (plain, sam) = judge([*rows[:3], *reversed(rows[3:])])
  assert "verdict" not in plain
  assert (plain["accuracy"], plain["deviation"]) == pytest.approx((0.5, 0.4))
  assert sam["accuracy"] == pytest.approx(0.52)
  assert sam["difference"] == pytest.approx(0.02)
  assert (
    sam["p_value"] == paired([(0.12, 0.1), (0.53, 0.5), (0.91, 0.9)])["p_value"]
  )
  assert (sam["seconds"], sam["seconds_ratio"]) == (4.0, 2.0)


def test_each_budget_has_the_runs_that_count_in_it():
  rows = runs(plain=(0.5, 0.6), sam=(0.7, 0.9), mixup=(0.5, 0.5))
  for row in rows:
    if row["arm"] != "sam":
      row["budgets"] = ["equal epochs", "equal time"]
  rows += [
    {**row, "epochs": 5, "budgets": ["equal time"], "test/accuracy": 0.4}
    for row in rows
    if row["arm"] == "sam"
  ]
  found = {(r["budget"], r["arm"]): r for r in judge(rows)}
  assert [*found] == [
    (budget, arm)
    for budget in ("equal epochs", "equal time")
    for arm in ("plain", "sam", "mixup")
  ]
  assert found["equal epochs", "sam"]["accuracy"] == pytest.approx(0.8)
  assert found["equal time", "sam"]["accuracy"] == pytest.approx(0.4)
  assert found["equal time", "sam"]["epochs"] == 5
  assert found["equal time", "mixup"]["epochs"] == 10


TEACHER = {
  "arm": "wide",
  "test/accuracy": 0.9,
  "params": 1234,
  "seconds": 5.0,
  "epochs": 10,
}


def test_tables_tell_what_is_noise():
  found = record(
    runs(plain=(0.5, 0.6), sam=(0.75, 0.852), mixup=(0.5, 0.7)), [TEACHER]
  )
  out = io.StringIO()
  show(found, Console(file=out, width=120))
  printed = [line.split("│")[1:-1] for line in out.getvalue().splitlines()]
  cells = [[cell.strip() for cell in line] for line in printed if line]
  title, blank, head, rule, *rows = markdown(found).split("\n")[:7]
  assert (title, blank) == ("At equal epochs:", "")
  assert head.startswith("| arm | epochs | accuracy, %")
  assert rule.count("|") == head.count("|")
  # Both have the same cells.
  assert [line.strip("| ").split(" | ") for line in rows] == cells
  assert cells[0] == ["plain", "10", "55.0 ± 7.1", *"––––", "2.0 s", "1.00x"]
  assert cells[1][3:7] == ["+25.1", "+23.8 to +26.4", "0.003", "better"]
  assert cells[2][6] == "within the noise"
  for text in (" ".join(out.getvalue().split()), markdown(found)):
    assert "deviations of 2 seeds" in text
    assert "not corrected for how many there are (2 in a table)" in text
    assert "Teacher wide: 90.0 % test accuracy, 1,234 parameters" in text


def test_one_seed_has_a_difference_and_no_spread():
  text = markdown(record(runs(plain=(0.5,), sam=(0.75,))))
  assert "| 50.0 | – | – | – | – |" in text
  assert "| 75.0 | +25.0 | – | – | one seed |" in text
  assert "±" not in text
