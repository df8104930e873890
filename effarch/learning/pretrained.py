"""Starts from what another run has learned."""

from __future__ import annotations

import dataclasses

import jax
from flax import nnx

from effarch.errors import UserError
from effarch.infrastructure.training import RunFolder, Technique, best_model


@dataclasses.dataclass(frozen=True)
class Pretrained(Technique):
  """Begins with a run's best checkpoint instead of random parameters.

  Args:
    folder: of a run of the same model, whose techniques left it as it is.
  """

  folder: str

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the trained model.

    Raises:
      UserError: the folder holds no checkpoint, or that of another model.
    """
    folder = RunFolder(self.folder)
    if not (folder.path / "checkpoints").is_dir():
      raise UserError(
        f"config.techniques.folder: {self.folder} is no run folder; train "
        "there first"
      )
    return best_model(model, folder, example)
