"""Quantization-aware training, as a technique."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.compression.quantize.quantized import Quantized
from effarch.compression.quantize.schemes import Scheme
from effarch.errors import UserError
from effarch.infrastructure.training import Technique


@dataclasses.dataclass(frozen=True)
class Quantize(Technique):
  """Trains a model that rounds weights and activations (arXiv:1712.05877).

  What folds for inference is folded before: start from a trained model, by the
  technique `pretrained`.

  Args:
    weights: their format, see `Scheme`; `""` leaves them in float.
    activations: theirs; `""` leaves them in float.
    per: `"channel"`, `"tensor"` or a group's size, of weights that share a
      scale.
    layers: other formats of weights, by patterns of their parameters' paths.
    learned: scales are trained too (arXiv:1902.08153).
    noise: the share of a weight's numbers that is rounded at each step
      (arXiv:2004.07320).
    momentum: of the ranges of activations.
  """

  weights: str = "int8"
  activations: str = "int8"
  per: str | int = "channel"
  layers: Mapping[str, str] | tuple[tuple[str, str], ...] = ()
  learned: bool = False
  noise: float = 1.0
  momentum: float = 0.95

  def __post_init__(self):
    if isinstance(self.layers, Mapping):
      object.__setattr__(self, "layers", tuple(self.layers.items()))
    self._arguments()

  def _arguments(self) -> dict[str, Any]:
    def scheme(dtype):
      return Scheme(dtype, per=self.per) if dtype else None

    activations = None
    if self.activations:
      activations = Scheme(self.activations, symmetric=False, per="tensor")
    return {
      "weights": scheme(self.weights),
      "activations": activations,
      "layers": {
        path: scheme(dtype) for path, dtype in dict(self.layers).items()
      },
      "learned": self.learned,
      "noise": self.noise,
      "momentum": self.momentum,
    }

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model, folded and wrapped.

    Raises:
      UserError: a pattern fits no weight, or a scheme does not fit one.
    """
    try:
      return Quantized(fold(model), example, **self._arguments())
    except ValueError as error:
      raise UserError(f"config.techniques.{error}") from error

  def finish(self, model: nnx.Module) -> nnx.Module:
    """Returns the model, whose scales files take over."""
    assert isinstance(model, Quantized)
    model.ship()
    return model
