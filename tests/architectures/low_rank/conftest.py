"""What tests of structured layers share."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def quickly(quick_compilation):
  """All of them compile much and compute little."""
