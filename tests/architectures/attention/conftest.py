"""Loops that are several turns long for a few tokens, and numbers in float64.

Both hold mixers against twins whose shapes are small.
"""

import jax
import pytest

from effarch.architectures.attention import (
  columns,
  delta,
  full,
  gated_linear,
  recurrence,
  softmax,
  top_k,
)


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


@pytest.fixture
def small_chunks(monkeypatch):
  """11 tokens are two whole chunks and a rest; 37 also of causal stages.

  And heads take turns.
  """
  for module in (delta, full, gated_linear, recurrence):
    monkeypatch.setattr(module, "CHUNK", 4)
  for module in (columns, top_k):
    monkeypatch.setattr(module, "_BLOCKS", 3)
  monkeypatch.setattr(softmax, "AT_ONCE", 0)
