"""`.tflite` files in LiteRT."""

from __future__ import annotations

import contextlib
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from effarch.errors import UserError
from effarch.infrastructure.runtime.inputs import random_inputs


class LiteRTModel:
  """A `.tflite` file in its runtime, on one thread.

  Args:
    file: its content, or its path.

  Raises:
    UserError: it is no such file.
  """

  threads = 1

  def __init__(self, file: bytes | str | os.PathLike):
    if not isinstance(file, bytes):
      file = pathlib.Path(file).read_bytes()
    try:
      with quiet():
        self._interpreter = Interpreter(model_content=file, num_threads=1)
        self._interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
      raise UserError(f"LiteRT can't read it: {error}") from error
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
      example = random_inputs(tensor["shape"], np.float32)
      self._interpreter.set_tensor(tensor["index"], _quantized(example, tensor))
    return self._interpreter.invoke


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
