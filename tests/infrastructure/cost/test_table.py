"""The table that people read, and the files that programs read."""

import csv
import io
import json
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from effarch.infrastructure.cost import measure
from effarch.infrastructure.cost.table import lines, size

X = jnp.ones((5, 4))


class Block(nnx.Module):
  def __init__(self, hidden, rngs):
    self.up = nnx.Linear(4, hidden, rngs=rngs)
    self.down = nnx.Linear(hidden, 4, rngs=rngs)

  def __call__(self, x):
    return x + self.down(nnx.relu(self.up(x)))


class Net(nnx.Module):
  def __init__(self, hidden, rngs):
    self.blocks = nnx.List([Block(size, rngs) for size in hidden])
    self.head = nnx.Linear(4, 2, rngs=rngs)

  def __call__(self, x):
    for block in self.blocks:
      x = block(x)
    return self.head(x)


def report(*hidden):
  return measure(Net(hidden, nnx.Rngs(0)), X)


def labels(report):
  return [line.label for line in lines(report)]


PARTS = ["up", "down", "(own)"]


@pytest.mark.parametrize(
  ("hidden", "folded"),
  [
    ([8] * 12, ["blocks.0-11 x12"]),
    ([8], ["blocks.0"]),
    ([8, 8], ["blocks.0-1 x2"]),
    ([8, 6, 6, 6, 8, 8], ["blocks.0", "blocks.1-3 x3", "blocks.4-5 x2"]),
  ],
)
def test_equal_modules_in_a_row_fold(hidden, folded):
  expected = [label for block in folded for label in (block, *PARTS)]
  assert labels(report(*hidden)) == ["(whole)", *expected, "head"]


def test_folding_asks_for_equal_parts_too():
  # Equal in sum, not within.
  class Turned(nnx.Module):
    def __init__(self, hidden, rngs):
      self.a = nnx.Linear(4, hidden, use_bias=False, rngs=rngs)
      self.b = nnx.Linear(4, 12 - hidden, use_bias=False, rngs=rngs)

    def __call__(self, x):
      return jnp.concatenate([self.a(x), self.b(x)], -1) @ jnp.ones((12, 4))

  class Pair(nnx.Module):
    def __init__(self, *hidden):
      self.layers = nnx.List([Turned(h, nnx.Rngs(0)) for h in hidden])

    def __call__(self, x):
      for layer in self.layers:
        x = layer(x)
      return x

  assert "layers.0-1 x2" in labels(measure(Pair(5, 5), X))
  unequal = labels(measure(Pair(5, 7), X))
  assert "layers.0" in unequal
  assert "layers.1" in unequal


def test_nested_folds_multiply():
  class Deep(nnx.Module):
    def __init__(self, rngs):
      self.stages = nnx.List([Net([8] * 2, rngs) for _ in range(3)])

    def __call__(self, x):
      return [stage(x) for stage in self.stages]

  found = lines(measure(Deep(nnx.Rngs(0)), X))
  inner = next(line for line in found if line.label == "blocks.0-1 x2")
  outer = next(line for line in found if line.label == "stages.0-2 x3")
  assert inner.cost.macs == 6 * 5 * 64
  assert (outer.depth, inner.depth) == (1, 2)
  assert outer.cost.macs == inner.cost.macs + 3 * 5 * 8


@pytest.mark.parametrize("hidden", [[8] * 5, [8, 6, 6]])
def test_lines_below_a_line_add_up_to_it(hidden):
  found = lines(report(*hidden))
  for place, line in enumerate(found):
    below = []
    for other in found[place + 1 :]:
      if other.depth <= line.depth:
        break
      if other.depth == line.depth + 1:
        below.append(other.cost)
    if below:
      for name, number in line.cost.numbers().items():
        assert number == sum(getattr(cost, name) for cost in below)


def test_text_shows_the_numbers_of_the_lines():
  found = report(*[8] * 12)
  text = str(found)
  # Two products of 5 x 4 x 8 in each of twelve; the head is 5 x 4 x 2.
  block = re.search(
    r"blocks\.0-11 x12 +Block +5x4 +float32 +([\d,]+) +([\d,]+) +([\d.%]+)",
    text,
  )
  assert block.groups() == ("912", "3,840", "99.0%")
  head = re.search(r"head +Linear +5x2 +float32 +10 +40 +1\.0%", text)
  assert head
  assert "922 parameters and 0 statistics: 3.69 kB" in text
  assert "kept" not in text


def test_what_was_not_measured_is_not_told():
  found = report(8)
  assert "compiled" not in str(found)
  assert "latency" not in str(found)
  assert "peak_bytes" not in found.summary()
  assert found.peak_bytes > 0
  assert re.search(r"compiled in [\d.]+ s, allots [\d.]+ k?B", str(found))
  assert found.summary()["peak_bytes"] == found.peak_bytes


def test_training_step_shows_what_it_keeps():
  found = measure(Net([8], nnx.Rngs(0)), X, train=True)
  assert re.search(r"module .* kept$", str(found).split("\n")[0])
  assert f"{size(found.activation_bytes)} kept for the backward" in str(found)


def test_json_and_csv_hold_every_row(tmp_path):
  found = report(8, 8)
  text = found.to_json(tmp_path / "cost.json")
  assert (tmp_path / "cost.json").read_text() == text
  told = json.loads(text)
  assert told["macs"] == found.macs
  assert told["params"] == found.params
  assert [row["module"] for row in told["modules"]] == list(found.by_module)
  rows = list(csv.DictReader(io.StringIO(found.to_csv(tmp_path / "cost.csv"))))
  assert (tmp_path / "cost.csv").read_text() == found.to_csv()
  for row in rows:
    own = found.by_module[row["module"]]
    assert int(row["macs"]) == own.macs
    assert float(row["share"]) == own.macs / found.macs
    assert (row["kind"], row["output"], row["dtype"]) == (
      own.kind,
      own.output,
      own.dtype,
    )
  assert len(rows) == len(found.by_module)


@pytest.mark.parametrize(
  ("number", "text"),
  [
    (0, "0 B"),
    (999, "999 B"),
    (1000, "1 kB"),
    (1_340_000, "1.34 MB"),
    (5e9, "5 GB"),
    (12e12, "12 TB"),
    (4.56e15, "4.56e+03 TB"),
  ],
)
def test_sizes_for_people(number, text):
  assert size(number) == text


class AModuleWhoseNameIsLongerThanAnyColumnOfAnyTable(nnx.Module):
  def __init__(self, rngs):
    self.parts_that_have_a_long_name_as_well = nnx.List(
      [nnx.Linear(4, 4, rngs=rngs) for _ in range(12)]
    )

  def __call__(self, x):
    for part in self.parts_that_have_a_long_name_as_well:
      x = part(x)
    return x, x.T, x[None], x.reshape(2, 2, 5)


def test_nothing_is_cut_however_long_it_is():
  model = AModuleWhoseNameIsLongerThanAnyColumnOfAnyTable(nnx.Rngs(0))
  found = measure(model, jnp.ones((5, 4)))
  first, second = str(found).split("\n")[2:4]
  assert type(model).__name__ in first
  assert "5x4, 4x5, 1x5x4, 2x2x5" in first
  assert f"{found.flops:,}" in first
  assert "parts_that_have_a_long_name_as_well.0-11 x12" in second


def test_own_line_that_shows_nothing_is_left_out():
  class Mover(nnx.Module):
    def __init__(self, rngs):
      self.dense = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
      return self.dense(x).T

  found = measure(Mover(nnx.Rngs(0)), X)
  assert found.by_module[""].own.bytes_written > 0
  assert "(own)" not in str(found)
  assert "(own)" in labels(found)


def test_model_without_products():
  class Sum(nnx.Module):
    def __call__(self, x):
      return x.sum()

  found = measure(Sum(), X)
  (row,) = found.rows()
  assert (row["macs"], row["share"], row["output"]) == (0, 0.0, "scalar")
  assert re.search(r"\(whole\) +Sum +scalar +float32 +0 +0 +0\.0%", str(found))


def test_summary_tells_what_is_unknown_and_what_was_measured():
  found = measure(lambda x: jax.pure_callback(jnp.sin, x, x), X)
  assert found.summary()["unknown"] == {"pure_callback": 1}
  assert "latency" not in found.summary()
  fast = report(8)
  assert fast.latency.p50_us == fast.summary()["latency"]["p50_us"]
  assert json.loads(fast.to_json())["latency"]["calls"] == fast.latency.calls
