"""Trained models as files that run elsewhere."""

from effarch.infrastructure.export.artifact import (
  PRECISIONS,
  measure,
  read_artifacts,
  ship,
)
from effarch.infrastructure.export.litert import (
  LiteRTModel,
  convert,
  quantize_int8,
)

__all__ = [
  "PRECISIONS",
  "LiteRTModel",
  "convert",
  "measure",
  "quantize_int8",
  "read_artifacts",
  "ship",
]
