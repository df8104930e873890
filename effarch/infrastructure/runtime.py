"""Files that run: `.tflite` in LiteRT, `.onnx` in ONNX Runtime."""

from __future__ import annotations

import contextlib
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from effarch.errors import UserError


def inference(path: str | os.PathLike) -> Callable[[], Any]:
  """Returns a call that runs a file on random inputs, on one thread.

  An axis that the file leaves open has size one.

  Raises:
    UserError: there is no such file, its kind is unknown, or its runtime is
      not installed or refuses it.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix not in _RUNTIMES:
    raise UserError(f"{path}: no {' or '.join(_RUNTIMES)} file")
  if not path.is_file():
    raise UserError(f"{path}: there is no such file")
  return _RUNTIMES[path.suffix](path)


def _litert(path: pathlib.Path) -> Callable[[], Any]:
  try:
    return LiteRTModel(path).inference()
  except ValueError as error:
    raise UserError(f"{path}: LiteRT can't read it: {error}") from error


def _onnx(path: pathlib.Path) -> Callable[[], Any]:
  try:
    import onnxruntime
  except ImportError:
    raise UserError(
      f"{path}: ONNX Runtime is missing; pip install onnxruntime"
    ) from None
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  options.log_severity_level = 4
  try:
    session = onnxruntime.InferenceSession(
      path, options, providers=["CPUExecutionProvider"]
    )
  except Exception as error:  # It raises kinds of its own.
    told = str(error).strip().split("\n")[0]
    raise UserError(f"{path}: ONNX Runtime can't read it: {told}") from error
  inputs = {
    tensor.name: _random(
      [size if isinstance(size, int) else 1 for size in tensor.shape],
      _ONNX_TYPES[tensor.type],
    )
    for tensor in session.get_inputs()
  }
  return lambda: session.run(None, inputs)


_RUNTIMES = {".tflite": _litert, ".onnx": _onnx}
_ONNX_TYPES = {
  "tensor(bool)": np.bool_,
  "tensor(double)": np.float64,
  "tensor(float)": np.float32,
  "tensor(float16)": np.float16,
  "tensor(int32)": np.int32,
  "tensor(int64)": np.int64,
  "tensor(int8)": np.int8,
  "tensor(uint8)": np.uint8,
}


class LiteRTModel:
  """A `.tflite` file in its runtime, on one thread.

  Args:
    file: its content, or its path.
  """

  def __init__(self, file: bytes | str | os.PathLike):
    if not isinstance(file, bytes):
      file = pathlib.Path(file).read_bytes()
    with quiet():
      self._interpreter = Interpreter(model_content=file, num_threads=1)
      self._interpreter.allocate_tensors()
    self._inputs = self._interpreter.get_input_details()
    self._output = self._interpreter.get_output_details()[0]

  def operators(self) -> list[str]:
    """Returns the operators' names in order, as the runtime lists them."""
    return [op["op_name"] for op in self._interpreter._get_ops_details()]

  def float_operators(self) -> list[str]:
    """Returns the names of operators that compute in float, each once."""
    found = {
      op["op_name"]
      for op in self._interpreter._get_ops_details()
      for place in op["outputs"]
      if self._interpreter._get_tensor_details(place, 0)["dtype"] == np.float32
    }
    return sorted(found - {"DELEGATE", "DEQUANTIZE"})

  def __call__(self, inputs: np.ndarray) -> np.ndarray:
    """Returns float outputs `N K` for float inputs `N ...`, one at a time.

    Of a file with one input; of several outputs the first is returned.
    """
    (tensor,) = self._inputs
    shape = (len(inputs), *self._output["shape"][1:])
    outputs = np.empty(shape, np.float32)
    for place, example in enumerate(_quantized(inputs, tensor)):
      self._interpreter.set_tensor(tensor["index"], example[None])
      self._interpreter.invoke()
      outputs[place] = _dequantized(
        self._interpreter.get_tensor(self._output["index"])[0], self._output
      )
    return outputs

  def inference(self) -> Callable[[], None]:
    """Returns a call that runs the file on random inputs, to be timed."""
    for tensor in self._inputs:
      example = _random(tensor["shape"], np.float32)
      self._interpreter.set_tensor(tensor["index"], _quantized(example, tensor))
    return self._interpreter.invoke


def _random(shape: Any, dtype: Any) -> np.ndarray:
  return np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype)


def _quantized(values: np.ndarray, tensor: dict) -> np.ndarray:
  """Returns floats as `tensor` takes them: `round(x / scale) + zero`."""
  scale, zero = tensor["quantization"]
  if not scale:
    return np.asarray(values, tensor["dtype"])
  limits = np.iinfo(tensor["dtype"])
  scaled = np.round(np.asarray(values, np.float32) / scale) + zero
  return np.clip(scaled, limits.min, limits.max).astype(tensor["dtype"])


def _dequantized(values: np.ndarray, tensor: dict) -> np.ndarray:
  scale, zero = tensor["quantization"]
  if not scale:
    return values
  return (values.astype(np.float32) - zero) * np.float32(scale)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Keeps the tools' notes and progress bars from the user's terminal.

  They come from C++ too, so the file descriptor itself is turned away.
  """
  with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
    warnings.simplefilter("ignore")
    kept = os.dup(2)
    os.dup2(nowhere.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(kept, 2)
      os.close(kept)
