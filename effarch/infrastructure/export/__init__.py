"""Trained models as files that run elsewhere."""

from effarch.infrastructure.export.artifact import (
  read_artifacts,
  ship,
  time_artifacts,
)
from effarch.infrastructure.export.litert import convert

__all__ = [
  "convert",
  "read_artifacts",
  "ship",
  "time_artifacts",
]
