"""Techniques that make models smaller, by name."""

from effarch.compression.structured import Structured

TECHNIQUES = {
  "structured": Structured,
}
