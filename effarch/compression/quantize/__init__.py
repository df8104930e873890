"""Quantization: to number formats, in training and after, and into files."""

from effarch.compression.quantize.equalize import correct_biases, equalize
from effarch.compression.quantize.mixed import choose
from effarch.compression.quantize.observers import OBSERVERS
from effarch.compression.quantize.post_training import (
  PRECISIONS,
  calibrate,
  post_training,
)
from effarch.compression.quantize.quantized import Quantized
from effarch.compression.quantize.rounding import ROUNDINGS, round_weights
from effarch.compression.quantize.schemes import Scheme
from effarch.compression.quantize.technique import Quantize

__all__ = [
  "OBSERVERS",
  "PRECISIONS",
  "ROUNDINGS",
  "Quantize",
  "Quantized",
  "Scheme",
  "calibrate",
  "choose",
  "correct_biases",
  "equalize",
  "post_training",
  "round_weights",
]
