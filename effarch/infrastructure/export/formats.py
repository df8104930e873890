"""The formats that models ship in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import nnx

from effarch.config import did_you_mean
from effarch.errors import UserError
from effarch.infrastructure.export import litert, onnx, stablehlo


class Format(NamedTuple):
  """Of files.

  Args:
    suffix: of their names.
    convert: from a model and the shape of a batch of one to a file's content.
  """

  suffix: str
  convert: Callable[[nnx.Module, jax.ShapeDtypeStruct], bytes]


FORMATS = {
  "litert": Format(".tflite", litert.convert),
  "onnx": Format(".onnx", onnx.convert),
  "stablehlo": Format(".stablehlo", stablehlo.convert),
}


def convert(
  model: nnx.Module, example: jax.ShapeDtypeStruct, kind: str = "litert"
) -> bytes:
  """Returns the content of a file of a model.

  It computes in float32, but for what the model notes to be quantized: that is
  stored and computed in integers, with the scales that are noted.

  Args:
    model: in evaluation mode, from a batch to logits.
    example: a batch of one example; the file takes one at a time.
    kind: one of `FORMATS`.

  Raises:
    UserError: there is no such format, or it lacks what the model does.
  """
  if kind not in FORMATS:
    raise UserError(f"kind: {kind!r} is unknown; {did_you_mean(kind, FORMATS)}")
  return FORMATS[kind].convert(model, example)
