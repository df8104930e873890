"""Trained models as files that run elsewhere."""

from effarch.infrastructure.export.artifact import (
  PRECISIONS,
  read_artifacts,
  ship,
  time_artifacts,
)
from effarch.infrastructure.export.litert import convert, quantize_int8

__all__ = [
  "PRECISIONS",
  "convert",
  "quantize_int8",
  "read_artifacts",
  "ship",
  "time_artifacts",
]
