"""Quantization: to number formats, in training and after, and into files."""

from effarch.compression.quantize.observers import OBSERVERS
from effarch.compression.quantize.post_training import (
  PRECISIONS,
  calibrate,
  post_training,
)
from effarch.compression.quantize.quantized import Quantized
from effarch.compression.quantize.schemes import Scheme
from effarch.compression.quantize.technique import Quantize

__all__ = [
  "OBSERVERS",
  "PRECISIONS",
  "Quantize",
  "Quantized",
  "Scheme",
  "calibrate",
  "post_training",
]
