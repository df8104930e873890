"""LiteRT (`.tflite`) files, by way of StableHLO and without TensorFlow.

Every file has one signature, `serving_default`, from `inputs` to `logits`.
"""

# The converter's native modules carry no types.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os

# The converter's library announces its use of oneDNN at every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.extend import core
from litert_converter import converter_api_ext
from litert_converter.mlir import ir, passmanager

from effarch.errors import UserError
from effarch.infrastructure.export.program import NOTE, flat
from effarch.infrastructure.runtime import quiet

_SIGNATURE = "serving_default"


def convert(model: nnx.Module, example: jax.ShapeDtypeStruct) -> bytes:
  """Returns a LiteRT file of a model.

  It computes in float32, but for what the model notes to be quantized, by
  `quant.fake_quant` composites: that is stored and computed in integers, with
  the scales that are noted.

  Args:
    model: in evaluation mode, from a batch to logits.
    example: a batch of one example; the file takes one at a time.

  Raises:
    UserError: LiteRT lacks what the model does, complex numbers for one.
  """
  call = core.jaxpr_as_fun(flat(model, example, edit=_uneven))
  lowered = jax.jit(lambda inputs: call(inputs)[0]).lower(example)
  stablehlo = lowered.as_text()
  config = converter_api_ext.ConvertToTFLConfig()
  # What a quantized model notes of its arrays becomes integers.
  config.strict_qdq_mode = NOTE in stablehlo
  with ir.Context() as context:
    converter_api_ext.prepare_mlir_context(context)
    module = ir.Module.parse(stablehlo, context)
    converter_api_ext.set_signature(
      module.operation, _SIGNATURE, ["inputs"], ["logits"]
    )
    module = converter_api_ext.merge_modules([module])
    try:
      with quiet():
        converter_api_ext.run_convert_to_tfl_passes(
          module, passmanager.PassManager(context=context), config
        )
        return converter_api_ext.export_flatbuffer_to_bytes(module.operation)
    except (ValueError, RuntimeError) as error:
      reason = " ".join(str(error).split())[:200]
      raise UserError(f"LiteRT can't convert this model ({reason})") from error


def _uneven(equation: Any, given: list[Any]) -> list[Any]:
  """Returns what an addition reads, no constant the same for all channels.

  Of such a bias the converter rounds the first number by its channel's scale
  and all others too, whatever theirs are. So the last differs by the least.
  """
  shape = equation.outvars[0].aval.shape
  if equation.primitive.name != "add" or not shape or shape[-1] == 1:
    return given
  return [_varied(each, shape) for each in given]


def _varied(array: Any, shape: tuple[int, ...]) -> Any:
  known = not isinstance(array, Tracer) and array.size
  if not known or array.dtype != np.float32:
    return array
  array = np.asarray(array)
  first, *_ = np.ravel(array)
  if not np.isfinite(first) or first == 0 or np.any(array != first):
    return array
  ends = np.full(shape[-1], first, np.float32)
  ends[-1] = np.nextafter(first, np.float32(0))
  outer = array.shape[:-1] or (1,) * (len(shape) - 1)
  return np.broadcast_to(ends, (*outer, shape[-1]))
