"""JAX's primitives in ONNX's operators, by the primitive's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.export.onnx_graph import (
  Graph,
  Stored,
  Value,
  reshaped,
  transposed,
)
from effarch.infrastructure.export.program import note

# From the graph, the equation and its inputs to its outputs.
Operator = Callable[..., Value | list[Value]]


def _plainly(operator: str) -> Operator:
  def write(graph, equation, *values):
    del equation
    return graph.node(operator, *values)

  return write


def _reduced(operator: str) -> Operator:
  def write(graph, equation, x):
    axes = np.asarray(equation.params["axes"], np.int64)
    return graph.node(operator, x, axes, keepdims=0)

  return write


def _negated(operator: str) -> Operator:
  def write(graph, equation, *values):
    del equation
    return graph.node("Not", graph.node(operator, *values))

  return write


def _same(graph: Graph, equation: Any, x: Value) -> Value:
  del graph, equation
  return x


def _transpose(graph: Graph, equation: Any, x: Value) -> Value:
  return transposed(graph, x, equation.params["permutation"])


def _reshape(graph: Graph, equation: Any, x: Value) -> Value:
  if equation.invars[0].aval.shape == equation.outvars[0].aval.shape:
    return x
  return reshaped(graph, x, equation.outvars[0].aval.shape)


def _broadcast(graph: Graph, equation: Any, x: Value) -> Value:
  shape = equation.params["shape"]
  places = equation.params["broadcast_dimensions"]
  given = equation.invars[0].aval.shape
  thin = [1] * len(shape)
  for axis, place in enumerate(places):
    thin[place] = given[axis]
  x = reshaped(graph, x, thin) if tuple(thin) != given else x
  if tuple(thin) == tuple(shape):
    return x
  return graph.node("Expand", x, np.asarray(shape, np.int64))


def _add(graph: Graph, equation: Any, *values: Value) -> Value:
  for given, other in (values, values[::-1]):
    if not isinstance(other, np.ndarray) or other.shape[-1:] != (other.size,):
      continue
    if graph.add_bias(given, other.reshape(-1)):
      return given
  return graph.node("Add", *values)


def _maximum(graph: Graph, equation: Any, *values: Value) -> Value:
  del equation
  for given, other in (values, values[::-1]):
    if isinstance(other, np.ndarray) and other.ndim == 0 and other == 0:
      return graph.node("Relu", given)
  return graph.node("Max", *values)


def _minimum(graph: Graph, equation: Any, *values: Value) -> Value:
  del equation
  for given, other in (values, values[::-1]):
    if isinstance(other, np.ndarray) and other.ndim == 0:
      before = graph.take_back("Relu", given)
      if before is not None:
        return graph.node("Clip", before, np.zeros_like(other), other)
  return graph.node("Min", *values)


def _integer_power(graph: Graph, equation: Any, x: Value) -> Value:
  return graph.node("Pow", x, np.float32(equation.params["y"]))


def _complement(graph: Graph, equation: Any, x: Value) -> Value:
  del equation
  return graph.node("Sub", np.float32(1), graph.node("Erf", x))


def _reciprocal_root(graph: Graph, equation: Any, x: Value) -> Value:
  del equation
  return graph.node("Reciprocal", graph.node("Sqrt", x))


def _logarithm(graph: Graph, equation: Any, x: Value) -> Value:
  del equation
  return graph.node("Log", graph.node("Add", x, np.float32(1)))


def _square(graph: Graph, equation: Any, x: Value) -> Value:
  del equation
  return graph.node("Mul", x, x)


def _select(graph: Graph, equation: Any, which: Value, *cases: Value) -> Value:
  if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
    raise UserError("ONNX: a choice among more than two is not known here")
  return graph.node("Where", which, cases[1], cases[0])


def _clamp(
  graph: Graph, equation: Any, low: Value, x: Value, high: Value
) -> Value:
  del equation
  return graph.node("Clip", x, low, high)


def _convert(graph: Graph, equation: Any, x: Value) -> Value:
  dtype = np.dtype(equation.params["new_dtype"])
  return graph.cast(x, dtype)


def _concatenate(graph: Graph, equation: Any, *values: Value) -> Value:
  return graph.node("Concat", *values, axis=equation.params["dimension"])


def _slice(graph: Graph, equation: Any, x: Value) -> Value:
  params = equation.params
  begin, end = params["start_indices"], params["limit_indices"]
  steps = params["strides"] or [1] * len(begin)
  axes = range(len(begin))
  return graph.node(
    "Slice",
    x,
    *(np.asarray(each, np.int64) for each in (begin, end, axes, steps)),
  )


def _reverse(graph: Graph, equation: Any, x: Value) -> Value:
  axes = np.asarray(equation.params["dimensions"], np.int64)
  ends = np.full_like(axes, np.iinfo(np.int64).min)
  ones = np.ones_like(axes)
  return graph.node("Slice", x, -ones, ends, axes, -ones)


def _split(graph: Graph, equation: Any, x: Value) -> list[Value]:
  sizes = np.asarray(equation.params["sizes"], np.int64)
  axis = int(equation.params["axis"])
  return [*graph.nodes("Split", len(sizes), x, sizes, axis=axis)]


def _pad(graph: Graph, equation: Any, x: Value, value: Value) -> Value:
  before, after, between = zip(*equation.params["padding_config"], strict=True)
  if any(between):
    raise UserError("ONNX: padding between elements is not known here")
  # Negative numbers take away, in both.
  return graph.node("Pad", x, np.asarray([*before, *after], np.int64), value)


def _argmax(graph: Graph, equation: Any, x: Value) -> Value:
  (axis,) = equation.params["axes"]
  found = graph.node("ArgMax", x, axis=int(axis), keepdims=0)
  return graph.cast(found, np.dtype(equation.params["index_dtype"]))


def _cumulative_sum(graph: Graph, equation: Any, x: Value) -> Value:
  axis = np.int64(equation.params["axis"])
  return graph.node("CumSum", x, axis, reverse=int(equation.params["reverse"]))


def _iota(graph: Graph, equation: Any) -> Value:
  params = equation.params
  shape = [1] * len(params["shape"])
  shape[params["dimension"]] = -1
  size = params["shape"][params["dimension"]]
  numbers = np.arange(size, dtype=params["dtype"]).reshape(shape)
  return graph.node("Expand", numbers, np.asarray(params["shape"], np.int64))


def _gather(graph: Graph, equation: Any, x: Value, places: Value) -> Value:
  """Writes what takes whole slices on one axis, as an embedding does."""
  numbers, sizes = equation.params["dimension_numbers"], equation.params
  shape, given = equation.invars[0].aval.shape, equation.invars[1].aval.shape
  (axis, *others) = numbers.start_index_map
  slices = list(shape)
  slices[axis] = 1
  rest = len(shape) - 1
  after = tuple(range(len(given) - 1, len(given) - 1 + rest))
  leading = axis == 0 and tuple(numbers.offset_dims) == after
  whole = tuple(sizes["slice_sizes"]) == tuple(slices)
  if others or not whole or not leading or numbers.operand_batching_dims:
    raise UserError("ONNX: this indexing is not known here")
  if tuple(numbers.collapsed_slice_dims) != (axis,):
    raise UserError("ONNX: this indexing is not known here")
  ends = np.asarray([0, shape[axis] - 1], np.int32)
  limited = graph.node("Clip", places, *ends)
  limited = reshaped(graph, limited, given[:-1])
  return graph.node("Gather", x, limited, axis=int(axis))


def _pool(operator: str) -> Operator:
  def write(graph, equation, x):
    params = equation.params
    window, strides = params["window_dimensions"], params["window_strides"]
    pads = params["padding"]
    axes = [axis for axis, size in enumerate(window) if size > 1]
    rest = [axis for axis in range(len(window)) if axis not in axes]
    dilated = set(params["base_dilation"]) | set(params["window_dilation"])
    if dilated != {1} or any(strides[a] > 1 or any(pads[a]) for a in rest):
      raise UserError("ONNX: this pooling is not known here")
    shape = [each.aval.shape for each in (*equation.invars, *equation.outvars)]
    order = [*rest, *axes]
    # Two axes go before those of the window, whatever there are.
    before = [1, math.prod(shape[0][axis] for axis in rest)]
    moved = transposed(graph, x, order)
    moved = reshaped(graph, moved, [*before, *(shape[0][a] for a in axes)])
    attributes: dict[str, Any] = {
      "kernel_shape": [int(window[a]) for a in axes],
      "strides": [int(strides[a]) for a in axes],
      "pads": [int(pads[a][end]) for end in (0, 1) for a in axes],
    }
    if operator == "AveragePool":
      attributes["count_include_pad"] = 1
    pooled = graph.node(operator, moved, **attributes)
    if operator == "AveragePool":
      size = math.prod(window)
      pooled = graph.node("Mul", pooled, np.float32(size))
    pooled = reshaped(graph, pooled, [shape[1][axis] for axis in order])
    return transposed(graph, pooled, np.argsort(order).tolist())

  return write


def _product(graph: Graph, equation: Any, x: Value, y: Value) -> Value:
  (contracted, batched) = equation.params["dimension_numbers"]
  shapes = [each.aval.shape for each in equation.invars]
  out = equation.outvars[0].aval.shape
  last = len(shapes[0]) - 1
  known = not isinstance(y, str)
  if known and contracted == ((last,), (0,)) and len(shapes[1]) == 2:
    return _layer(graph, x, y, shapes[0])
  matrices, frees = [], []
  for value, shape, inner, outer, first in zip(
    (x, y), shapes, contracted, batched, (True, False), strict=True
  ):
    free = [a for a in range(len(shape)) if a not in (*inner, *outer)]
    order = [*outer, *free, *inner] if first else [*outer, *inner, *free]
    sizes = [
      math.prod(shape[a] for a in axes)
      for axes in ((free, inner) if first else (inner, free))
    ]
    moved = transposed(graph, value, order)
    wanted = [*(shape[a] for a in outer), *sizes]
    if wanted != [shape[axis] for axis in order]:
      moved = reshaped(graph, moved, wanted)
    matrices.append(moved)
    frees.append(free)
  product = graph.node("MatMul", *matrices)
  if len(frees[0]) == len(frees[1]) == 1:
    return product
  return reshaped(graph, product, out)


def _layer(graph: Graph, x: Value, y: Any, shape: tuple[int, ...]) -> Value:
  """Writes a product with a weight: of images, a convolution of one tap."""
  if len(shape) == 2:
    name = graph.node("Gemm", x, y)
    graph.takes_bias(name)
    return name
  if len(shape) != 4:
    return graph.node("MatMul", x, y)
  kernel = reshaped(graph, transposed(graph, y, (1, 0)), (*y.shape[::-1], 1, 1))
  found = graph.node("Conv", transposed(graph, x, (0, 3, 1, 2)), kernel)
  name = str(transposed(graph, found, (0, 2, 3, 1)))
  graph.takes_bias(name)
  return name


def _convolution(graph: Graph, equation: Any, x: Value, kernel: Value) -> Value:
  params = equation.params
  numbers = params["dimension_numbers"]
  pads = np.asarray(params["padding"])
  if set(params["lhs_dilation"]) != {1} or params["batch_group_count"] != 1:
    raise UserError("ONNX: transposed convolutions are not known here")
  if pads.min() < 0:
    raise UserError("ONNX: a convolution's negative padding is not known here")
  found = graph.node(
    "Conv",
    transposed(graph, x, numbers.lhs_spec),
    transposed(graph, kernel, numbers.rhs_spec),
    strides=[*map(int, params["window_strides"])],
    dilations=[*map(int, params["rhs_dilation"])],
    group=params["feature_group_count"],
    pads=[*map(int, pads.T.reshape(-1))],
  )
  name = transposed(graph, found, np.argsort(numbers.out_spec).tolist())
  assert isinstance(name, str)
  if numbers.out_spec[1] == len(numbers.out_spec) - 1:
    graph.takes_bias(name)
  return name


def _noted(graph: Graph, equation: Any, *values: Value) -> Value:
  known = note(equation)
  x = values[-1]  # Before it is what its function holds.
  if known is None:
    raise UserError(f"ONNX: {equation.params['name']} is not known here")
  if isinstance(x, str):
    return graph.rounded(x, known)
  assert isinstance(x, np.ndarray)
  return Stored(known.integers(x), known)


OPERATORS: dict[str, Operator] = {
  "abs": _plainly("Abs"),
  "add": _add,
  "and": _plainly("And"),
  "argmax": _argmax,
  "broadcast_in_dim": _broadcast,
  "ceil": _plainly("Ceil"),
  "clamp": _clamp,
  "composite": _noted,
  "concatenate": _concatenate,
  "conv_general_dilated": _convolution,
  "convert_element_type": _convert,
  "copy": _same,
  "cos": _plainly("Cos"),
  "cumsum": _cumulative_sum,
  "div": _plainly("Div"),
  "dot_general": _product,
  "eq": _plainly("Equal"),
  "erf": _plainly("Erf"),
  "erfc": _complement,
  "exp": _plainly("Exp"),
  "floor": _plainly("Floor"),
  "gather": _gather,
  "ge": _plainly("GreaterOrEqual"),
  "gt": _plainly("Greater"),
  "integer_pow": _integer_power,
  "iota": _iota,
  "le": _plainly("LessOrEqual"),
  "log": _plainly("Log"),
  "log1p": _logarithm,
  "logistic": _plainly("Sigmoid"),
  "lt": _plainly("Less"),
  "max": _maximum,
  "min": _minimum,
  "mul": _plainly("Mul"),
  "ne": _negated("Equal"),
  "neg": _plainly("Neg"),
  "not": _plainly("Not"),
  "or": _plainly("Or"),
  "pad": _pad,
  "pow": _plainly("Pow"),
  "reduce_max": _reduced("ReduceMax"),
  "reduce_min": _reduced("ReduceMin"),
  "reduce_prod": _reduced("ReduceProd"),
  "reduce_sum": _reduced("ReduceSum"),
  "reduce_window_max": _pool("MaxPool"),
  "reduce_window_sum": _pool("AveragePool"),
  "reshape": _reshape,
  "rev": _reverse,
  "round": _plainly("Round"),
  "rsqrt": _reciprocal_root,
  "select_n": _select,
  "sign": _plainly("Sign"),
  "sin": _plainly("Sin"),
  "slice": _slice,
  "split": _split,
  "sqrt": _plainly("Sqrt"),
  "square": _square,
  "squeeze": _reshape,
  "stop_gradient": _same,
  "sub": _plainly("Sub"),
  "tanh": _plainly("Tanh"),
  "transpose": _transpose,
}
