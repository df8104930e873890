"""An ONNX graph while it is written: nodes, constants, what is quantized."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.export.program import Note

onnx: Any = None
with contextlib.suppress(ImportError):  # It comes with the extra `onnx`.
  import onnx

# The first with integers of four bits.
_OPSET, _IR_VERSION = 21, 10


@dataclasses.dataclass(frozen=True)
class Stored:
  """A constant in integers.

  Args:
    integers: in int8.
    note: how they are read.
  """

  integers: np.ndarray
  note: Note

  @property
  def shape(self) -> tuple[int, ...]:
    return self.integers.shape

  def transpose(self, order: Sequence[int]) -> Stored:
    axis = self.note.axis
    moved = None if axis is None else list(order).index(axis)
    note = dataclasses.replace(self.note, axis=moved)
    return Stored(self.integers.transpose(order), note)

  def reshape(self, shape: Sequence[int]) -> Stored | None:
    """Returns it in another shape; None if its scales lie on no axis then."""
    axis, moved = self.note.axis, None
    if axis is not None:
      # As many numbers before it and after it as there were.
      size, inner = self.shape[axis], math.prod(self.shape[axis + 1 :])
      places = [
        place
        for place in range(len(shape))
        if shape[place] == size and math.prod(shape[place + 1 :]) == inner
      ]
      if not places:
        return None
      moved = places[0]
    note = dataclasses.replace(self.note, axis=moved)
    return Stored(self.integers.reshape(shape), note)


# A tensor's name, or what is known of it.
Value = str | np.ndarray | np.generic | Stored


class Graph:
  """Nodes in the order in which they compute.

  Raises:
    UserError: `onnx` is not installed.
  """

  def __init__(self):
    if onnx is None:
      raise UserError("ONNX files need a package; pip install effarch[onnx]")
    self._nodes: list[Any] = []
    self._initializers: dict[tuple[Any, ...], Any] = {}
    self._count = 0
    self._settled: set[str] = set()
    # Nodes that can add a bias, by the name of what comes out of them.
    self._biasable: dict[str, Any] = {}

  def node(self, operator: str, *inputs: Value, **attributes: Any) -> str:
    """Adds a node and returns its output's name."""
    return self.nodes(operator, 1, *inputs, **attributes)[0]

  def nodes(
    self, operator: str, outputs: int, *inputs: Value, **attributes: Any
  ) -> list[str]:
    """Adds a node and returns its outputs' names."""
    names = [self.name(each) for each in inputs]
    made = [self._new(operator) for _ in range(outputs)]
    node = onnx.helper.make_node(operator, names, made, **attributes)
    self._nodes.append(node)
    return made

  def takes_bias(self, name: str) -> None:
    """Says that the last node but moves makes `name` and can add a bias."""
    moves = ("Reshape", "Transpose")
    self._biasable[name] = next(
      node for node in reversed(self._nodes) if node.op_type not in moves
    )

  def add_bias(self, name: Value, bias: np.ndarray) -> bool:
    """Has the node that makes `name` add a bias, if it can."""
    node = self._biasable.pop(name, None) if isinstance(name, str) else None
    if node is not None:
      node.input.append(self.name(bias))
    return node is not None

  def settle(self, value: Value) -> None:
    """Keeps the node that makes a value as it is."""
    if isinstance(value, str):
      self._biasable.pop(value, None)
      self._settled.add(value)

  def take_back(self, operator: str, value: Value) -> str | None:
    """Removes the last node if it is this, and returns what it reads."""
    node = self._nodes[-1] if self._nodes else None
    if node is None or node.op_type != operator or value in self._settled:
      return None
    if node.output[0] != value:
      return None
    return self._nodes.pop().input[0]

  def cast(self, value: Value, dtype: np.dtype) -> str:
    """Returns a tensor in another type."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return self.node("Cast", value, to=kind)

  def name(self, value: Value) -> str:
    """Returns a tensor's name; a constant becomes one here."""
    if isinstance(value, str):
      return value
    if isinstance(value, Stored):
      note = value.note
      integers = value.integers
      if note.bits <= 4:
        # Small in the file; products are of integers with eight bits.
        integers = self.cast(integers.astype(jnp.int4), np.dtype(np.int8))
      axis = {} if note.axis is None else {"axis": note.axis}
      return self.node("DequantizeLinear", integers, *_grid(note), **axis)
    array = np.asarray(value)
    key = (array.dtype, array.shape, array.tobytes())
    if array.dtype.itemsize == 1:
      # Runtimes change the type of integers for each reader by itself.
      key = (len(self._initializers),)
    if key not in self._initializers:
      self._initializers[key] = onnx.numpy_helper.from_array(
        array, self._new("constant")
      )
    return self._initializers[key].name

  def rounded(self, value: str, note: Note) -> str:
    """Rounds a tensor as its note says."""
    axis = {} if note.axis is None else {"axis": note.axis}
    # Without sign, as products on x86 take it.
    scale, zero = _grid(note)
    if note.bits == 8:
      zero = (zero.astype(np.int64) + 128).astype(np.uint8)
    stored = self.node("QuantizeLinear", value, scale, zero, **axis)
    return self.node("DequantizeLinear", stored, scale, zero, **axis)

  def _new(self, kind: str) -> str:
    self._count += 1
    return f"{kind}_{self._count}"

  def serialize(
    self, example: jax.ShapeDtypeStruct, output: Any, value: Value
  ) -> bytes:
    """Returns the file's content.

    Args:
      example: the shape of the input, `inputs`.
      output: the shape of the output.
      value: what becomes the output, `logits`.
    """
    last = onnx.helper.make_node("Identity", [self.name(value)], ["logits"])
    graph = onnx.helper.make_graph(
      [*self._nodes, last],
      "model",
      [_described("inputs", example)],
      [_described("logits", output)],
      list(self._initializers.values()),
    )
    model = onnx.helper.make_model(
      graph,
      producer_name="effarch",
      ir_version=_IR_VERSION,
      opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
    )
    return model.SerializeToString(deterministic=True)


def transposed(graph: Graph, x: Value, order: Sequence[int]) -> Value:
  """Returns a value with its axes in another order."""
  if list(order) == sorted(order):
    return x
  if isinstance(x, str):
    return graph.node("Transpose", x, perm=[int(axis) for axis in order])
  return x.transpose(order) if isinstance(x, Stored) else np.transpose(x, order)


def reshaped(graph: Graph, x: Value, shape: Sequence[int]) -> Value:
  """Returns a value in another shape."""
  if isinstance(x, np.ndarray):
    return x.reshape(shape)
  if isinstance(x, Stored) and (moved := x.reshape(shape)) is not None:
    return moved
  return graph.node("Reshape", x, np.asarray(shape, np.int64))


def _grid(note: Note) -> tuple[np.ndarray, np.ndarray]:
  shape = () if note.axis is None else (-1,)
  zero = note.zero_point.astype(np.int8)
  return note.scale.reshape(shape), zero.reshape(shape)


def _described(name: str, shaped: Any) -> Any:
  kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(shaped.dtype))
  return onnx.helper.make_tensor_value_info(name, kind, shaped.shape)
