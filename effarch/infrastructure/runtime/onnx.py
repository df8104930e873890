"""`.onnx` files in ONNX Runtime."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from effarch.errors import UserError
from effarch.infrastructure.runtime.inputs import random_inputs

onnxruntime: Any = None
with contextlib.suppress(ImportError):  # It comes with the extra `onnx`.
  import onnxruntime

_TYPES = {
  "tensor(bool)": np.bool_,
  "tensor(double)": np.float64,
  "tensor(float)": np.float32,
  "tensor(float16)": np.float16,
  "tensor(int32)": np.int32,
  "tensor(int64)": np.int64,
  "tensor(int8)": np.int8,
  "tensor(uint8)": np.uint8,
}
_OPTIONS = {
  # Products of eight bits are summed in sixteen on x86 without VNNI, and
  # overflow, unless this is set.
  "session.x64quantprecision": "1",
  # Where weights alone are quantized, what they meet stays in float32.
  "session.qdq_matmulnbits_accuracy_level": "1",
}


class OnnxModel:
  """An `.onnx` file in its runtime, on one thread.

  Args:
    file: its content, or its path.

  Raises:
    UserError: the runtime is not installed, or it is no such file.
  """

  threads = 1

  def __init__(self, file: bytes | str | os.PathLike):
    if onnxruntime is None:
      raise UserError("ONNX Runtime is missing; pip install onnxruntime")
    self._file = file if isinstance(file, bytes) else pathlib.Path(file)
    try:
      self._session = _session(self._file)
    except Exception as error:  # It raises kinds of its own.
      told = str(error).strip().split("\n")[0]
      raise UserError(f"ONNX Runtime can't read it: {told}") from error
    self._inputs = self._session.get_inputs()

  def operators(self) -> list[str]:
    """Returns the operators' names in order, as the runtime computes them."""
    return [name for name, _ in self._computed()]

  def float_operators(self) -> list[str]:
    """Returns the names of operators that compute in float, each once."""
    found = {name for name, kinds in self._computed() if "float" in kinds}
    return sorted(found - {"DequantizeLinear"})

  def _computed(self) -> list[tuple[str, set[str]]]:
    """Returns each operator with the types of what it makes."""
    with tempfile.TemporaryDirectory() as folder:
      session = _session(self._file, profile=f"{folder}/profile")
      session.run(None, self._random())
      events = json.loads(pathlib.Path(session.end_profiling()).read_text())
    return [
      (
        event["args"]["op_name"],
        {kind for each in made for kind in each},
      )
      for event in events
      if (made := event["args"].get("output_type_shape")) is not None
    ]

  def __call__(self, inputs: np.ndarray) -> np.ndarray:
    """Returns outputs `N K` for inputs `N ...`, one at a time.

    Of a file with one input; of several outputs the first is returned.
    """
    (tensor,) = self._inputs
    given = np.asarray(inputs, _TYPES[tensor.type])
    return np.concatenate(
      [
        self._session.run(None, {tensor.name: example[None]})[0]
        for example in given
      ]
    )

  def inference(self) -> Callable[[], Any]:
    """Returns a call that runs the file on random inputs, to be timed.

    An axis that the file leaves open has size one.
    """
    inputs = self._random()
    return lambda: self._session.run(None, inputs)

  def _random(self) -> dict[str, np.ndarray]:
    return {
      tensor.name: random_inputs(
        [size if isinstance(size, int) else 1 for size in tensor.shape],
        _TYPES[tensor.type],
      )
      for tensor in self._inputs
    }


def _session(file: bytes | pathlib.Path, profile: str = "") -> Any:
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  options.log_severity_level = 4
  for key, value in _OPTIONS.items():
    options.add_session_config_entry(key, value)
  if profile:
    options.enable_profiling = True
    options.profile_file_prefix = profile
  return onnxruntime.InferenceSession(
    file, options, providers=["CPUExecutionProvider"]
  )
