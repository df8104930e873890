"""Reports of run folders that were written by hand: marks, pictures, pages."""

import html.parser
import json
import shutil

import numpy as np
import pytest
from matplotlib import image
from matplotlib.axes import Axes

from effarch.errors import UserError

HOSTILE = (
  "</script><script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<!--<script>",
  "/*DATA*/ /*PLOTLY*/",
  "[/bold] [link=x] $\\frac$ \"'&\\",
)


class Page(html.parser.HTMLParser):
  """The elements of a page, and the text in its script elements."""

  def __init__(self, path):
    super().__init__()
    self.elements, self.scripts = [], []
    self.feed(path.read_text())
    self.data = json.loads(self.scripts[1], parse_constant=pytest.fail)

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag == "script":
      self.scripts.append("")

  def handle_data(self, data):
    if self.elements and self.elements[-1][0] == "script":
      self.scripts[-1] += data


def write_three(write_run):
  """A small and a good artifact, and one that the good one dominates."""
  small = {"size_bytes": 1000, "accuracy": 0.5, "latency_us": 4.0}
  good = {"size_bytes": 2000, "accuracy": 0.75, "latency_us": 8.0}
  write_run("small", {"width": 1}, [{**small, "precision": "int8"}])
  write_run("good", {"width": 2}, [good])
  write_run("bad", {"width": 3}, [{**good, "accuracy": 0.625}])


def table(study):
  return json.loads((study / "frontier.json").read_text())


def picture(study):
  return image.imread(study / "frontier.png")


def test_frontier_is_marked_everywhere(study, write_run, printed):
  write_three(write_run)
  text = printed()
  marks = {row["run"]: row["frontier"] for row in table(study)}
  assert marks == {"small": True, "good": True, "bad": False}
  data = Page(study / "report.html").data
  assert {row["run"]: row["frontier"] for row in data["rows"]} == marks
  dotted = [line.split() for line in text.splitlines() if "│ ●" in line]
  assert [line[3] for line in dotted] == ["1", "2"]  # The widths
  assert "2 of 3 artifacts are on the frontier of accuracy against" in text
  # 0.75 at the worst of both footprints, so only the corners are reached.
  assert "size_bytes and latency_us; they dominate 0.0% of the box" in text


def test_study_decides_which_columns_count(study, write_run, printed):
  first = {"accuracy": 0.5, "validation_accuracy": 0.75, "latency_us": 1.0}
  second = {"accuracy": 0.75, "validation_accuracy": 0.5, "latency_us": 2.0}
  write_run("a", {"width": 1}, [{**first, "size_bytes": 9}])
  write_run("b", {"width": 2}, [{**second, "size_bytes": 1}])
  printed()
  assert [row["frontier"] for row in table(study)] == [True, True]
  columns = {"quality": "validation_accuracy", "footprint": ["latency_us"]}
  columns["runs"] = ["a", "b"]
  (study / "study.json").write_text(json.dumps(columns))
  assert "1 of 2 artifacts" in printed()
  assert [(r["run"], r["frontier"]) for r in table(study)] == [
    ("b", False),
    ("a", True),
  ]
  start = Page(study / "report.html").data["start"]
  assert start == {"quality": "validation_accuracy", "footprint": "latency_us"}


def test_run_folders_alone_make_the_report(study, write_run, printed, tmp_path):
  write_three(write_run)
  printed()
  # Only records travel: no model file, no checkpoint, no earlier report.
  elsewhere = tmp_path / "elsewhere" / "study"
  made = ("*.html", "*.png", "*.csv", "frontier.json", "*.tflite")
  shutil.copytree(study, elsewhere, ignore=shutil.ignore_patterns(*made))
  printed(elsewhere)
  names = ("report.html", "frontier.png", "frontier.csv", "frontier.json")
  for name in names:
    assert (elsewhere / name).read_bytes() == (study / name).read_bytes()
  # A report is no run, so a second one finds the same.
  printed()
  for name in names:
    assert (elsewhere / name).read_bytes() == (study / name).read_bytes()


def test_page_holds_each_pair_of_axes(study, write_run, printed):
  write_three(write_run)
  printed()
  data = Page(study / "report.html").data
  assert data["title"] == "study"
  runs = [row["run"] for row in data["rows"]]
  for pair, front in data["frontiers"].items():
    quality, footprint = pair.split("|")
    best = {"accuracy": {"small", "good"}, "validation_accuracy": set(runs)}
    if footprint in ("macs", "params", "train_seconds"):  # All alike
      expected = {"accuracy": {"good"}, "validation_accuracy": set(runs)}
    else:
      expected = {**best, "validation_accuracy": {"small"}}
    assert {runs[place] for place in front} == expected[quality]
  assert len(data["frontiers"]) == 2 * 5
  for row in data["rows"]:
    assert row["provenance"]["command"] == "train"
    assert [point["epoch"] for point in row["curve"]] == [1, 2]


def test_page_needs_nothing_from_elsewhere(study, write_run, printed):
  write_three(write_run)
  printed()
  page = (study / "report.html").read_text()
  assert 'src="http' not in page
  assert "<link" not in page
  elements = Page(study / "report.html").elements
  for tag, attributes in elements:
    assert tag not in ("link", "iframe", "img", "object", "embed")
    assert not {"src", "href"} & set(attributes)
  scripts = [given for tag, given in elements if tag == "script"]
  assert scripts == [{}, {"id": "data", "type": "application/json"}, {}]
  assert "/*PLOTLY*/" not in page
  assert "@import" not in page.split("<script>")[0]


def test_hostile_text_never_leaves_the_data(study, write_run, printed):
  for place, text in enumerate(HOSTILE):
    write_run(
      f"run{place}",
      {"width": text, "model": {text: text}},
      [{"size_bytes": 1000 + place, "accuracy": 0.5 + 0.125 * place}],
      command=f"python {text}",
    )
  printed()
  page = (study / "report.html").read_text()
  for text in HOSTILE[:3]:
    assert text not in page
  parsed = Page(study / "report.html")
  rows = parsed.data["rows"]
  assert [row["config"]["width"] for row in rows] == list(HOSTILE)
  assert [row["provenance"]["command"] for row in rows] == [
    f"python {text}" for text in HOSTILE
  ]
  assert [tag for tag, _ in parsed.elements].count("script") == 3
  assert {tag for tag, _ in parsed.elements}.isdisjoint({"img", "bold"})
  assert len(parsed.scripts[0]) > 10**6  # The plotting library came whole.


def test_terminal_shows_brackets_as_they_are(study, write_run, printed):
  write_run("x", {"width": "[/red]"}, [{}])
  write_run("y", {"width": "[bold]"}, [{}])
  text = printed()
  assert "[/red]" in text
  assert "[bold]" in text
  bracketed = study.parent / "a [red] study [/]"
  shutil.copytree(study, bracketed)
  assert "a [red] study [/]/report.html" in printed(bracketed).replace("\n", "")


def test_picture_shows_the_data(study, write_run, printed):
  write_three(write_run)
  printed()
  first = picture(study)
  height, width, _ = first.shape
  assert height > 400
  assert width > 2 * height  # Two panels
  printed()
  np.testing.assert_array_equal(picture(study), first)
  moved = {"accuracy": 0.7, "size_bytes": 2000, "latency_us": 8.0}
  write_run("bad", {"width": 3}, [moved])
  printed()
  assert not np.array_equal(picture(study), first)


def test_picture_joins_each_panels_own_frontier(
  study, write_run, printed, monkeypatch
):
  write_three(write_run)
  # On the frontier of latency alone.
  quick = {"size_bytes": 3000, "accuracy": 0.625, "latency_us": 5.0}
  write_run("quick", {"width": 4}, [quick])
  lines = []

  def spy(self, x, y, **options):
    lines.append((x, y))
    assert options["where"] == "post"

  monkeypatch.setattr(Axes, "step", spy)
  printed()
  assert lines == [
    ((1000, 2000), (0.5, 0.75)),
    ((4.0, 5.0, 8.0), (0.5, 0.625, 0.75)),
  ]


@pytest.mark.parametrize("runs", [1, 3])
def test_equal_values_make_a_report(study, write_run, printed, runs):
  for place in range(runs):
    write_run(f"run{place}", {"width": place}, [{}])
  text = printed()
  assert f"{runs} of {runs} artifacts" in text
  assert "dominate 100.0% of the box" in text
  assert all(row["frontier"] for row in table(study))
  assert len(np.unique(picture(study))) > 2  # Not an empty canvas
  assert len(Page(study / "report.html").data["rows"]) == runs


def test_nested_runs_and_a_single_run_make_a_report(study, write_run, printed):
  write_run("group/one", {"width": 1}, [{}])
  write_run("group/deep/er", {"width": 2}, [{}])
  printed()
  assert {row["run"] for row in table(study)} == {"group/one", "group/deep/er"}
  printed(study / "group" / "one")
  assert [row["run"] for row in table(study / "group" / "one")] == ["."]


def test_folder_is_titled_by_its_name(study, write_run, printed, monkeypatch):
  write_run("only", None, [{}])
  monkeypatch.chdir(study)
  printed(type(study)("."))
  assert Page(study / "report.html").data["title"] == "study"


def test_broken_metric_leaves_the_page_readable(study, write_run, printed):
  curve = [{"step": 1, "epoch": 1, "train/norm": float("nan")}]
  write_run("only", None, [{}], curve)
  printed()
  [row] = Page(study / "report.html").data["rows"]
  assert row["curve"][0]["train/norm"] == "NaN"


@pytest.mark.parametrize("other", ["monday", "tuesday", None])
def test_latencies_of_two_measurements_are_told(
  study, write_run, printed, other
):
  write_run("a", {"width": 1}, [{"latency_measured": "monday"}])
  write_run("b", {"width": 2}, [{"latency_measured": other}])
  told = "Latencies stem from several measurements" in printed()
  assert told == (other != "monday")


def test_column_that_one_artifact_lacks_is_left_out(study, write_run, printed):
  write_run("old", None, [{"latency_us": None}])
  write_run("new", None, [{}])
  text = printed()
  assert "against size_bytes;" in text
  assert "Not every artifact has latency_us" in text
  axes = Page(study / "report.html").data["axes"]
  assert axes["footprint"] == ["size_bytes", "macs", "params", "train_seconds"]
  chosen = {"footprint": ["latency_us"], "runs": ["old", "new"]}
  (study / "study.json").write_text(json.dumps(chosen))
  with pytest.raises(UserError, match="not all artifacts are measured"):
    printed()


def test_folder_without_runs_writes_nothing(study, printed):
  with pytest.raises(UserError, match="holds no run with artifacts"):
    printed()
  assert list(study.iterdir()) == []
