"""Techniques that make models smaller, by name."""

from effarch.compression.quantize import Quantize
from effarch.compression.structured import Structured

TECHNIQUES = {
  "quantize": Quantize,
  "structured": Structured,
}
