"""A model whose logits can be seen behind a loss."""

from __future__ import annotations

from typing import Any

from flax import nnx
from jaxtyping import Array, Float


class Watched(nnx.Module):
  """Remembers what the model gave last.

  Args:
    model: from inputs to logits.
  """

  def __init__(self, model: nnx.Module):
    self.model: Any = model
    self._logits = nnx.data(None)

  def __call__(self, x: Array) -> Float[Array, "*B K"]:
    self._logits = self.model(x)
    return self._logits

  @property
  def logits(self) -> Float[Array, "*B K"]:
    """Of the last call."""
    assert self._logits is not None, "the loss has not called the model"
    return self._logits
