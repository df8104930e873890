"""LiteRT (`.tflite`) files, by way of StableHLO and without TensorFlow.

Every file has one signature, `serving_default`, from `inputs` to `logits`.
"""

# The converter's native modules carry no types.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os

# The converter's library announces its use of oneDNN at every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import jax
from flax import nnx
from litert_converter import converter_api_ext
from litert_converter.mlir import ir, passmanager

from effarch.errors import UserError
from effarch.infrastructure.runtime import quiet

_SIGNATURE = "serving_default"
_NOTE = "quant.fake_quant"


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
  graphdef, state = nnx.split(model)

  def call(inputs):
    return nnx.merge(graphdef, state)(inputs)

  # As for an accelerator: what is formulated for this machine's processor is
  # not what the converter knows.
  traced = jax.jit(call).trace(example)
  stablehlo = traced.lower(lowering_platforms=("tpu",)).as_text()
  config = converter_api_ext.ConvertToTFLConfig()
  # What a quantized model notes of its arrays becomes integers.
  config.strict_qdq_mode = _NOTE in stablehlo
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
