"""LiteRT (`.tflite`) files, by way of StableHLO and without TensorFlow.

Every file has one signature, `serving_default`, from `inputs` to `logits`.
"""

# The converter's native modules carry no types.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

# The converter's library announces its use of oneDNN at every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import jax
import numpy as np
from ai_edge_quantizer import quantizer, recipe
from flax import nnx
from litert_converter import converter_api_ext
from litert_converter.mlir import ir, passmanager

from effarch.errors import UserError
from effarch.infrastructure.runtime import quiet

_SIGNATURE = "serving_default"


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
  """Turns what the converter's libraries raise into one line."""
  try:
    yield
  except (ValueError, RuntimeError) as error:
    reason = " ".join(str(error).split())[:200]
    raise UserError(
      f"config.export.precisions: LiteRT can't {what} ({reason})"
    ) from error


def convert(model: nnx.Module, example: jax.ShapeDtypeStruct) -> bytes:
  """Returns a float32 LiteRT file of a model.

  Args:
    model: in evaluation mode, from a batch to logits.
    example: a batch of one example; the file takes one at a time.

  Raises:
    UserError: LiteRT lacks what the model does, complex numbers for one.
  """
  graphdef, state = nnx.split(model)

  def call(inputs):
    return nnx.merge(graphdef, state)(inputs)

  # As for an accelerator: what is formulated for this machine's processor is
  # not what the converter knows.
  traced = jax.jit(call).trace(example)
  stablehlo = traced.lower(lowering_platforms=("tpu",)).as_text()
  with ir.Context() as context:
    converter_api_ext.prepare_mlir_context(context)
    module = ir.Module.parse(stablehlo, context)
    converter_api_ext.set_signature(
      module.operation, _SIGNATURE, ["inputs"], ["logits"]
    )
    module = converter_api_ext.merge_modules([module])
    with _told("convert this model"), quiet():
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

  Raises:
    UserError: the tool lacks what the model does.
  """
  tool = quantizer.Quantizer(bytearray(float_file), recipe.static_wi8_ai8())
  examples = [{"inputs": example[None]} for example in calibration]
  with _told("quantize this model; ship float32 alone"), quiet():
    ranges = tool.calibrate({_SIGNATURE: examples}, num_threads=1)
    result = tool.quantize(ranges, enable_progress_report=False)
  assert result.quantized_model is not None  # `quantize` raises otherwise.
  return bytes(result.quantized_model)
