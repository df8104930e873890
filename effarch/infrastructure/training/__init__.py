"""One training loop for every model, on any number of devices."""

from effarch.infrastructure.training.evaluate import evaluate
from effarch.infrastructure.training.loop import (
  Loop,
  best_model,
  fit,
)
from effarch.infrastructure.training.metrics import classification_loss
from effarch.infrastructure.training.optimizer import (
  OPTIMIZERS,
  SCHEDULES,
  clipped,
)
from effarch.infrastructure.training.run_folder import (
  RunFolder,
  device_name,
  folder_name,
  processor,
  provenance,
)
from effarch.infrastructure.training.steps import first_state, make_steps
from effarch.infrastructure.training.technique import (
  Batch,
  GradientFn,
  Losses,
  LossFn,
  State,
  Technique,
  Weights,
)

__all__ = [
  "OPTIMIZERS",
  "SCHEDULES",
  "Batch",
  "GradientFn",
  "Loop",
  "LossFn",
  "Losses",
  "RunFolder",
  "State",
  "Technique",
  "Weights",
  "best_model",
  "classification_loss",
  "clipped",
  "device_name",
  "evaluate",
  "first_state",
  "fit",
  "folder_name",
  "make_steps",
  "processor",
  "provenance",
]
