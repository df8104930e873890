"""What `measure` returns."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from effarch.infrastructure.cost import table
from effarch.infrastructure.cost.count import Cost
from effarch.infrastructure.cost.executable import Executable
from effarch.infrastructure.cost.latency import Latency, latency
from effarch.infrastructure.cost.roofline import Ceilings, Roofline
from effarch.infrastructure.cost.roofline import ceilings as measured_ceilings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row(Cost):
  """The cost of a module and all that is in it.

  Args:
    path: of the module, `"blocks.3.attention"`; empty for the whole model.
    kind: its class.
    outputs: the shapes and types that its last call returned.
    own: what none of the modules in it costs.
  """

  path: str
  kind: str
  outputs: tuple[jax.ShapeDtypeStruct, ...]
  own: Cost

  @property
  def output(self) -> str:
    """The outputs' shapes, `"1x16x16x32"`."""
    shapes = ("x".join(map(str, out.shape)) or "scalar" for out in self.outputs)
    return ", ".join(shapes)

  @property
  def dtype(self) -> str:
    """The outputs' types, each named once."""
    return ", ".join(dict.fromkeys(out.dtype.name for out in self.outputs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Cost):
  """The cost of a model or function, in sum and by module.

  What needs compiling is compiled when it is first asked for.

  Args:
    by_module: a row for each module by its path, in the order of their calls,
      what is within a module after it. A row holds all that is within.
    train: what was measured is a training step.
    optimizer_bytes: of the optimizer's state.
    product_dtype: the type in which most MACs are done.
    executable: the program.
  """

  by_module: Mapping[str, Row]
  train: bool
  optimizer_bytes: int
  product_dtype: str
  executable: Executable = dataclasses.field(repr=False)

  @property
  def peak_bytes(self) -> int:
    """Bytes of arguments, results and temporaries of the compiled program."""
    return self.executable.peak_bytes

  @property
  def live_peak_bytes(self) -> int | None:
    """What the device held at most while running; None where it can't tell."""
    return self.executable.live_peak_bytes

  @property
  def compile_seconds(self) -> float:
    """How long XLA took."""
    return self.executable.compile_seconds

  @functools.cached_property
  def latency(self) -> Latency:
    """Of the compiled program, on the default device.

    Raises:
      ValueError: the model holds shapes, no arrays.
    """
    found = latency(self.executable.call())
    return dataclasses.replace(found, compile_seconds=self.compile_seconds)

  def roofline(self, ceilings: Ceilings | None = None) -> Roofline:
    """Places each module under the device's ceilings.

    Args:
      ceilings: of the device; measured now for `product_dtype`, if None.
    """
    return Roofline.of(self, ceilings or measured_ceilings(self.product_dtype))

  def summary(self) -> dict[str, Any]:
    """Returns all numbers of the whole, measured ones only if they exist."""
    found: dict[str, Any] = {
      "train": self.train,
      **self.numbers(),
      "optimizer_bytes": self.optimizer_bytes,
      "unknown": self.unknown,
    }
    if self.executable.is_compiled:
      found["peak_bytes"] = self.peak_bytes
      found["compile_seconds"] = self.compile_seconds
    if "latency" in vars(self):
      found["latency"] = dataclasses.asdict(self.latency)
    return found

  def rows(self) -> list[dict[str, Any]]:
    """Returns a flat row for each module."""
    return [
      {
        "module": row.path,
        "kind": row.kind,
        "output": row.output,
        "dtype": row.dtype,
        **row.numbers(),
        "share": row.macs / self.macs if self.macs else 0.0,
      }
      for row in self.by_module.values()
    ]

  def to_json(self, path: str | os.PathLike | None = None) -> str:
    """Returns summary and rows as JSON, and writes them to `path` if given."""
    found = {**self.summary(), "modules": self.rows()}
    return _written(json.dumps(found, indent=2) + "\n", path)

  def to_csv(self, path: str | os.PathLike | None = None) -> str:
    """Returns the rows as CSV, and writes them to `path` if given."""
    rows, out = self.rows(), io.StringIO()
    writer = csv.DictWriter(out, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return _written(out.getvalue(), path)

  def __str__(self) -> str:
    return table.text(self)


def _written(text: str, path: str | os.PathLike | None) -> str:
  if path is not None:
    pathlib.Path(path).write_text(text)
  return text
