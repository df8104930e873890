"""Sweeps: which points, what is told of each, and the picture of it."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from effarch.infrastructure.cost import Latency, Sweep, measure, sweep


class Mixer(nnx.Module):
  """Products whose cost grows with the square of the length."""

  def __call__(self, x):
    x = x.reshape(*x.shape[:2], -1)
    return jnp.einsum("btc,bsc->bts", x, x)


def measured(inputs):
  return measure(Mixer(), inputs)


def test_every_combination_is_measured():
  found = Sweep((1, 4), (3, 6)).reports(measured, (5, 2))
  assert [varied for varied, _ in found] == [
    {"batch_size": size, "sequence_length": length}
    for size in (1, 4)
    for length in (3, 6)
  ]
  macs = [size * length**2 * 2 for size in (1, 4) for length in (3, 6)]
  assert [report.macs for _, report in found] == macs


def test_without_lengths_inputs_stay_as_they_are():
  found = Sweep((2,)).reports(measured, (5, 2), jnp.int32)
  assert [varied for varied, _ in found] == [{"batch_size": 2}]
  report = found[0][1]
  assert report.macs == 2 * 25 * 2
  assert report.by_module[""].dtype == "int32"
  # Tokens alone are sequences too.
  assert Sweep((1,), (7,)).reports(measured, (5,))[0][1].macs == 49


def test_of_pairs_of_tokens_both_are_as_long():
  shapes = []

  def watched(example):
    shapes.append(example.shape)
    return measure(lambda x: x + x, example)

  Sweep((3,), (7, 9)).reports(watched, (2, 5), jnp.int32)
  assert shapes == [(3, 2, 7), (3, 2, 9)]


def test_images_are_no_sequences():
  with pytest.raises(ValueError, match="an input of 8x8x1 is no sequence"):
    Sweep((1,), (7,)).reports(measured, (8, 8, 1))


@pytest.mark.parametrize(
  ("entries", "told"),
  [
    ({"batch_sizes": ()}, "batch_sizes: is empty"),
    ({"batch_sizes": (0,)}, r"batch_sizes: \(0,\) is no list of positive"),
    ({"sequence_lengths": (-1,)}, r"sequence_lengths: \(-1,\) is no list"),
    ({"batch_sizes": (True,)}, r"batch_sizes: \(True,\) is no list"),
  ],
)
def test_impossible_entries_are_refused(entries, told):
  with pytest.raises(ValueError, match=told):
    Sweep(**entries)


def test_all_programs_are_timed_in_turns(monkeypatch):
  asked = []

  def latencies(functions):
    asked.append([np.shape(function()) for function in functions])
    return [
      Latency(10.0 * place, 20.0, 30.0, 4, 5.0, 15.0)
      for place in range(1, len(functions) + 1)
    ]

  monkeypatch.setattr(sweep, "latencies", latencies)
  reports = Sweep((1, 4)).reports(measured, (5, 2))
  rows = sweep.timed(reports)
  assert asked == [[(1, 5, 5), (4, 5, 5)]]
  assert [row["p50_us"] for row in rows] == [10, 20]
  assert [row["us_per_example"] for row in rows] == [10, 5]
  for row, (_, report) in zip(rows, reports, strict=True):
    assert row["macs"] == report.macs
    assert row["peak_bytes"] == report.peak_bytes
    assert row["compile_seconds"] == report.compile_seconds > 0
    assert (row["low_us"], row["high_us"]) == (5, 15)


def point(size, length=None, scale=1.0):
  times = {"p50_us": 9.0, "low_us": 8.0, "high_us": 11.0}
  row = {name: scale * size * value for name, value in times.items()}
  row |= {"batch_size": size, "peak_bytes": 1000 * size}
  return row if length is None else {**row, "sequence_length": length}


def lines(panel):
  """What a panel draws, by the names in its legend."""
  return {
    line.get_label(): [tuple(point) for point in line.get_xydata().tolist()]
    for line in panel.get_lines()
  }


def test_lines_are_those_of_what_the_axis_does_not_vary():
  rows = [point(s, n, n) for s in (1, 8) for n in (64, 128)]
  made = sweep.figure(rows, "$x")
  time, memory = made.axes
  assert time.get_xlabel() == memory.get_xlabel() == "sequence length"
  assert lines(time) == {
    f"batch size {s}": [(n, pytest.approx(9e-6 * s * n)) for n in (64, 128)]
    for s in (1, 8)
  }
  assert lines(memory) == {
    f"batch size {s}": [(n, 1000 * s) for n in (64, 128)] for s in (1, 8)
  }
  assert [text.get_text() for text in time.get_legend().get_texts()] == [
    "batch size 1",
    "batch size 8",
  ]
  # Bands from the lowest to the highest round.
  heights = time.collections[0].get_paths()[0].vertices[:, 1]
  assert heights.min() == pytest.approx(8e-6 * 64)
  assert heights.max() == pytest.approx(11e-6 * 128)
  assert time.yaxis.get_major_formatter()(0.002) == "2 ms"
  assert memory.yaxis.get_major_formatter()(2000) == "2 kB"


def test_batches_alone_are_the_axis():
  time, memory = sweep.figure([point(1), point(8)], "one").axes
  assert time.get_xlabel() == memory.get_xlabel() == "batch size"
  (line,) = lines(time).values()
  assert line == [(1, pytest.approx(9e-6)), (8, pytest.approx(72e-6))]
  assert time.get_legend() is None


def test_picture_is_a_png():
  picture = Image.open(io.BytesIO(sweep.plot([point(1)], "one")))
  assert picture.format == "PNG"
  assert picture.width > 2 * picture.height
