"""Trains a model with structured layers in the place of dense ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from effarch.architectures.low_rank import (
  STRUCTURES,
  LinearStructure,
  LowRank,
  replace_linear,
)
from effarch.config import build
from effarch.errors import UserError
from effarch.infrastructure.training import Technique

_QUARTER = LowRank(params_ratio=0.25)


@dataclasses.dataclass(frozen=True)
class Structured(Technique):
  """Replaces linear layers before training by new ones, drawn at random.

  Args:
    structure: of the new weights, or its config: a name of `STRUCTURES`, and
      arguments.
    where: a pattern of the layers' paths; see `replace_linear`.
    seed: draws the new weights.

  Raises:
    UserError: the structure's config is wrong.
  """

  structure: LinearStructure | Mapping[str, Any] = _QUARTER
  where: str = "*"
  seed: int = 0

  def __post_init__(self):
    if isinstance(self.structure, Mapping):
      made = build(STRUCTURES, self.structure, "config.techniques.structure")
      object.__setattr__(self, "structure", made)

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model, changed in place.

    Raises:
      UserError: no layer could be replaced.
    """
    del example
    assert isinstance(self.structure, LinearStructure)
    try:
      replace_linear(
        model, self.structure, self.where, rngs=nnx.Rngs(self.seed)
      )
    except ValueError as error:
      raise UserError(f"config.techniques.{error}") from error
    return model
