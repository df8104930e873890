"""Reports of seeds, of several studies, and of what is within limits."""

import json
import re
import shutil

import pytest
from matplotlib.axes import Axes

from effarch.errors import UserError
from effarch.strategies.limits import Limit


def table(folder):
  return json.loads((folder / "frontier.json").read_text())


def page_data(folder):
  page = (folder / "report.html").read_text()
  return json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', page)[1])


def write_seeds(write_run):
  """Two clear points, and one that is worse than the second by noise alone."""
  rows = {
    "small": (1000, (0.50, 0.52, 0.51)),
    "good": (2000, (0.75, 0.77, 0.76)),
    "near": (2500, (0.74, 0.77, 0.75)),
    "bad": (3000, (0.55, 0.57, 0.56)),
  }
  for name, (size, accuracies) in rows.items():
    for seed, accuracy in enumerate(accuracies):
      row = {"size_bytes": size, "accuracy": accuracy, "latency_us": size / 100}
      write_run(f"{name}{seed}", {"width": name, "seed": seed}, [row])


def test_seeds_are_one_row_with_their_spread(study, write_run, printed):
  write_seeds(write_run)
  text = printed()
  rows = table(study)
  assert [row["config"]["width"] for row in rows] == [
    *("small", "good", "near", "bad")
  ]
  assert [row["seeds"] for row in rows] == [3] * 4
  assert "0.7600 ± 0.0100" in text
  assert "2,000 │" in text  # Bytes have no spread.
  signs = [line.split()[1] for line in text.splitlines() if "float32" in line]
  assert signs == ["●", "●", "○", "│"]
  assert [row["frontier"] for row in rows] == [True, True, False, False]
  assert [row["undecided"] for row in rows] == [False, False, True, False]
  data = page_data(study)
  assert data["undecided"]["accuracy|size_bytes"] == [2]
  assert data["rows"][1]["std"]["accuracy"] == pytest.approx(0.01)
  assert "members" not in data["rows"][1]  # The page would hold all twice.


def test_picture_has_bars_where_there_are_seeds(
  study, write_run, printed, monkeypatch
):
  bars = []
  monkeypatch.setattr(
    Axes, "errorbar", lambda self, x, y, up, across, **_: bars.append(up)
  )
  write_run("only", None, [{}])
  printed()
  assert bars == []
  shutil.rmtree(study / "only")
  write_seeds(write_run)
  printed()
  assert len(bars) == 2 * 4
  assert bars[0] == pytest.approx(0.01)


def test_knee_is_marked_everywhere(study, write_run, printed):
  # Bytes count by their ratios; by differences the third would be the knee.
  sizes = (1000, 2000, 100_000, 1_000_000)
  for place, accuracy in enumerate((0.5, 0.75, 0.95, 1.0)):
    row = {"accuracy": accuracy, "size_bytes": sizes[place], "latency_us": 5}
    write_run(f"run{place}", {"width": place}, [row])
  text = printed()
  assert [row["knee"] for row in table(study)] == [False, True, False, False]
  signs = [line.split()[1] for line in text.splitlines() if "float32" in line]
  assert signs == ["●", "◆", "●", "●"]
  knees = page_data(study)["knees"]
  assert knees["accuracy|size_bytes"] == 1
  assert knees["accuracy|latency_us"] is None


def test_studies_together_make_a_report(study, write_run, printed, tmp_path):
  good = {"size_bytes": 900, "accuracy": 0.75}
  write_run("a/one", {"width": 1}, [{}])
  write_run("b/one", {"width": 2}, [{**good, "latency_measured": "monday"}])
  both = tmp_path / "both"
  text = printed(study / "a", study / "b", workdir=both)
  assert "1 of 2 artifacts" in text
  assert "Latencies stem from several measurements" in text
  assert [row["run"] for row in table(both)] == ["b/one", "a/one"]
  assert page_data(both)["title"] == "both"
  assert not (study / "a" / "report.html").exists()
  assert not (study / "b" / "report.html").exists()


def test_columns_of_the_first_study_count(study, write_run, printed, tmp_path):
  for name, quality in (("a", "validation_accuracy"), ("b", "accuracy")):
    write_run(f"{name}/one", {"width": name}, [{}])
    columns = {"quality": quality, "footprint": ["macs"], "runs": ["one"]}
    (study / name / "study.json").write_text(json.dumps(columns))
  text = printed(study / "a", study / "b", workdir=tmp_path / "both")
  assert "Studies differ in quality or footprint: the first's count" in text
  assert "the frontier of validation_accuracy against macs;" in text


def test_best_within_limits_is_named(study, write_run, printed):
  small = {"size_bytes": 1000, "accuracy": 0.5, "validation_accuracy": 0.5}
  # Better on test data alone.
  lucky = {"size_bytes": 2000, "accuracy": 0.9, "validation_accuracy": 0.6}
  good = {"size_bytes": 2000, "accuracy": 0.7, "validation_accuracy": 0.7}
  large = {"size_bytes": 9000, "accuracy": 1.0, "validation_accuracy": 1.0}
  for name, row in enumerate((small, lucky, good, large)):
    write_run(f"run{name}", {"width": f"[{name}]"}, [row])
  limits = [Limit("size_bytes", 5000), Limit("latency_us", 10)]
  text = printed(limits=limits).replace("\n", " ")
  assert (
    "Best by validation_accuracy with size_bytes <= 5,000 and "
    "latency_us <= 10: [2] float32, run2/artifacts/float32.tflite (accuracy "
    "0.7000, validation_accuracy 0.7000, size_bytes 2,000, latency_us 7.5000)"
  ) in text
  with pytest.raises(UserError, match="no artifact has size_bytes <= 10;"):
    printed(limits=[Limit("size_bytes", 10)])
