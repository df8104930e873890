"""LiteRT (`.tflite`) files, by way of StableHLO and without TensorFlow.

Every file has one signature, `serving_default`, from `inputs` to `logits`.
"""

# The converter's native modules carry no types.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator

# The converter's library announces its use of oneDNN at every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import jax
import jax.numpy as jnp
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from flax import nnx
from litert_converter import converter_api_ext
from litert_converter.mlir import ir, passmanager

_SIGNATURE = "serving_default"


def convert(model: nnx.Module, input_shape: tuple[int, ...]) -> bytes:
  """Returns a float32 LiteRT file of a model.

  Args:
    model: in evaluation mode, from `B *input_shape` to logits `B K`.
    input_shape: of one example; the file takes one at a time.
  """
  graphdef, state = nnx.split(model)

  def call(inputs):
    return nnx.merge(graphdef, state)(inputs)

  example = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  stablehlo = jax.jit(call).lower(example).as_text()
  with ir.Context() as context:
    converter_api_ext.prepare_mlir_context(context)
    module = ir.Module.parse(stablehlo, context)
    converter_api_ext.set_signature(
      module.operation, _SIGNATURE, ["inputs"], ["logits"]
    )
    module = converter_api_ext.merge_modules([module])
    converter_api_ext.run_convert_to_tfl_passes(
      module,
      passmanager.PassManager(context=context),
      converter_api_ext.ConvertToTFLConfig(),
    )
    return converter_api_ext.export_flatbuffer_to_bytes(module.operation)


def quantize_int8(float_file: bytes, calibration: np.ndarray) -> bytes:
  """Returns the file with int8 weights, activations, input and output.

  Args:
    float_file: what `convert` returned.
    calibration: `N ...`, training inputs from which the ranges of the
      activations are read.
  """
  tool = quantizer.Quantizer(bytearray(float_file), recipe.static_wi8_ai8())
  examples = [{"inputs": example[None]} for example in calibration]
  with _quiet():
    ranges = tool.calibrate({_SIGNATURE: examples}, num_threads=1)
    result = tool.quantize(ranges, enable_progress_report=False)
  assert result.quantized_model is not None  # `quantize` raises otherwise.
  return bytes(result.quantized_model)


class LiteRTModel:
  """A `.tflite` file in its runtime.

  It runs on one thread.

  Args:
    file: its content, or its path.
  """

  def __init__(self, file: bytes | str | os.PathLike):
    if not isinstance(file, bytes):
      file = pathlib.Path(file).read_bytes()
    with _quiet():
      self._interpreter = Interpreter(model_content=file, num_threads=1)
      self._interpreter.allocate_tensors()
    (self._input,) = self._interpreter.get_input_details()
    (self._output,) = self._interpreter.get_output_details()

  def operators(self) -> list[str]:
    """Returns the operators' names in order, as the runtime lists them."""
    return [op["op_name"] for op in self._interpreter._get_ops_details()]

  def __call__(self, inputs: np.ndarray) -> np.ndarray:
    """Returns float logits `N K` for float inputs `N ...`, one at a time."""
    shape = (len(inputs), *self._output["shape"][1:])
    logits = np.empty(shape, np.float32)
    for place, example in enumerate(_quantized(inputs, self._input)):
      self._interpreter.set_tensor(self._input["index"], example[None])
      self._interpreter.invoke()
      logits[place] = _dequantized(
        self._interpreter.get_tensor(self._output["index"])[0], self._output
      )
    return logits

  def inference(self) -> Callable[[], None]:
    """Returns a call that runs the file on one random example, to be timed."""
    example = np.random.default_rng(0).uniform(-1, 1, self._input["shape"])
    self._interpreter.set_tensor(
      self._input["index"],
      _quantized(example.astype(np.float32), self._input),
    )
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
def _quiet() -> Iterator[None]:
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
