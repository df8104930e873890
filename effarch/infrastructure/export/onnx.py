"""ONNX (`.onnx`) files, written from a model's flat program.

What is noted to be quantized is stored in integers, and what computes with it
stands between `DequantizeLinear` and `QuantizeLinear`, by which runtimes know
that they may compute it in integers. A file has one input, `inputs`, and one
output, `logits`.
"""

from __future__ import annotations

import collections
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.extend import core

from effarch.errors import UserError
from effarch.infrastructure.export.onnx_graph import Graph, Value
from effarch.infrastructure.export.onnx_operators import OPERATORS
from effarch.infrastructure.export.program import flat, number


def convert(model: nnx.Module, example: jax.ShapeDtypeStruct) -> bytes:
  """Returns an ONNX file of a model.

  Args:
    model: in evaluation mode, from a batch to logits.
    example: a batch of one example; the file takes one at a time.

  Raises:
    UserError: `onnx` is not installed, or the model does what is not known
      here.
  """
  graph, program = Graph(), flat(model, example)
  jaxpr = program.jaxpr
  values: dict[Any, Value] = {jaxpr.invars[0]: "inputs"}
  for variable, constant in zip(jaxpr.constvars, program.consts, strict=True):
    values[variable] = np.asarray(constant)
  reads = collections.Counter(
    each
    for equation in jaxpr.eqns
    for each in equation.invars
    if not isinstance(each, core.Literal)
  )

  def read(each: Any) -> Value:
    if isinstance(each, core.Literal):
      return number(each)
    if reads[each] > 1:
      # What others read too stays as it is.
      graph.settle(values[each])
    return values[each]

  for equation in jaxpr.eqns:
    name = equation.primitive.name
    if name not in OPERATORS:
      raise UserError(f"ONNX: {name} is not known here")
    given = [read(each) for each in equation.invars]
    found = OPERATORS[name](graph, equation, *given)
    outputs = found if isinstance(found, list) else [found]
    values |= zip(equation.outvars, outputs, strict=True)
  (output,) = jaxpr.outvars
  return graph.serialize(example, output.aval, read(output))
