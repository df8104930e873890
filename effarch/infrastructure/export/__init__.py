"""Trained models as files that run elsewhere."""

from effarch.infrastructure.export.artifact import (
  read_artifacts,
  ship,
  time_artifacts,
)
from effarch.infrastructure.export.formats import FORMATS, convert

__all__ = [
  "FORMATS",
  "convert",
  "read_artifacts",
  "ship",
  "time_artifacts",
]
