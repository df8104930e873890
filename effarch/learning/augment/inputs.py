"""What augmentations ask of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from effarch.infrastructure.training import Batch, Technique

_AXES = {"images": "B H W C", "signals": "B T C", "features": "B F"}


def floats(technique: Technique, batch: Batch, kind: str) -> jax.Array:
  """Returns the batch's inputs.

  Args:
    technique: that asks; named in the error.
    batch: its inputs are looked at.
    kind: `"images"`, `B H W C`; `"signals"`, `B T C`; `"features"`, `B F`; or
      `"floats"` of any shape.

  Raises:
    ValueError: the inputs are of another kind.
  """
  inputs, axes = batch["inputs"], _AXES.get(kind)
  fits = axes is None or inputs.ndim == len(axes.split())
  if not fits or not jnp.issubdtype(inputs.dtype, jnp.floating):
    raise ValueError(
      f"{type(technique).__name__}: inputs {inputs.dtype}{inputs.shape} are no "
      f"{kind}{f', {axes}' if axes else ''}"
    )
  return inputs


def tokens(
  technique: Technique, batch: Batch, *, moves: bool = False
) -> jax.Array:
  """Returns the batch's tokens, `B ... T`.

  Args:
    technique: that asks; named in the error.
    batch: its inputs are looked at.
    moves: whether tokens change their places, so that none may have a label.

  Raises:
    ValueError: the inputs are no tokens, or each has a label and moves.
  """
  inputs, name = batch["inputs"], type(technique).__name__
  if inputs.ndim < 2 or not jnp.issubdtype(inputs.dtype, jnp.integer):
    raise ValueError(
      f"{name}: inputs {inputs.dtype}{inputs.shape} are no tokens, B T"
    )
  if moves and batch["labels"].ndim != 2:
    raise ValueError(
      f"{name}: moves tokens, and each has a label, {batch['labels'].shape}"
    )
  return inputs


def classes(technique: Technique, batch: Batch) -> jax.Array:
  """Returns the batch's labels, `B K`.

  Raises:
    ValueError: an example has more than one label.
  """
  labels = batch["labels"]
  if labels.ndim != 2:
    raise ValueError(
      f"{type(technique).__name__}: labels {labels.shape} are not one for each "
      "example, B K"
    )
  return labels
