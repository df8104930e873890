"""Optax optimizers and schedules by name."""

from __future__ import annotations

import optax


def constant(learning_rate: float, total_steps: int) -> optax.Schedule:
  """The same rate from first to last."""
  del total_steps
  return optax.constant_schedule(learning_rate)


def cosine(
  learning_rate: float, total_steps: int, warmup_fraction: float = 0.05
) -> optax.Schedule:
  """Linear warm-up to `learning_rate`, then half a cosine down to zero."""
  if not 0 <= warmup_fraction < 1:
    raise ValueError(f"warmup_fraction: {warmup_fraction} is not in [0, 1)")
  return optax.warmup_cosine_decay_schedule(
    0.0, learning_rate, round(warmup_fraction * total_steps), total_steps
  )


def one_cycle(
  learning_rate: float, total_steps: int, peak_fraction: float = 0.3
) -> optax.Schedule:
  """Up to `learning_rate` and down again, both on cosines (1708.07120)."""
  if not 0 < peak_fraction < 1:
    raise ValueError(f"peak_fraction: {peak_fraction} is not in (0, 1)")
  return optax.cosine_onecycle_schedule(
    total_steps, learning_rate, pct_start=peak_fraction
  )


SCHEDULES = {
  "constant": constant,
  "cosine": cosine,
  "one_cycle": one_cycle,
}

OPTIMIZERS = {
  "adam": optax.adam,
  "adamw": optax.adamw,
  "lion": optax.lion,
  "sgd": optax.sgd,
}


def clipped(
  tx: optax.GradientTransformation, clip_norm: float
) -> optax.GradientTransformation:
  """Scales gradients longer than `clip_norm` down to it; 0 clips nothing."""
  if not clip_norm:
    return tx
  return optax.chain(optax.clip_by_global_norm(clip_norm), tx)
