"""Optax optimizers and schedules by name."""

from __future__ import annotations

import fnmatch

import jax
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


def muon(
  learning_rate: optax.ScalarOrSchedule,
  beta: float = 0.95,
  weight_decay: float = 0.0,
  ns_steps: int = 5,
  nesterov: bool = True,
  consistent_rms: float = 0.2,
  adam_b1: float = 0.9,
  adam_b2: float = 0.999,
  adam_weight_decay: float = 0.0,
  adam_layers: tuple[str, ...] = ("*embedding*", "*classifier*"),
) -> optax.GradientTransformation:
  """Muon: orthogonal steps for hidden layers, NAdamW for the rest (2502.16982).

  Hidden are the parameters named `kernel`, as matrices from all their inputs to
  their outputs, which are the last axis; but those of one input channel, such
  as depthwise convolutions', have no matrix.

  Args:
    learning_rate: of both.
    beta: decay of the momentum.
    weight_decay: of the hidden layers.
    ns_steps: of the Newton-Schulz iteration.
    nesterov: whether the momentum looks ahead.
    consistent_rms: the root mean square of a step at a rate of one; 0.2 is
      about AdamW's, so that its rates fit.
    adam_b1: NAdamW's decay of the first moment.
    adam_b2: of the second.
    adam_weight_decay: NAdamW's.
    adam_layers: patterns of the paths of further parameters that NAdamW gets.
  """

  def hidden(path, x):
    where = jax.tree_util.keystr(path, simple=True, separator=".")
    where = where.removesuffix(".value")  # Of a variable in a state.
    left = any(fnmatch.fnmatchcase(where, layer) for layer in adam_layers)
    single = x.ndim > 2 and x.shape[-2] == 1
    if where.split(".")[-1] != "kernel" or x.ndim < 2 or single or left:
      return None
    return optax.contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), -1)

  return optax.contrib.muon(
    learning_rate,
    beta=beta,
    weight_decay=weight_decay,
    ns_steps=ns_steps,
    nesterov=nesterov,
    consistent_rms=consistent_rms,
    adam_b1=adam_b1,
    adam_b2=adam_b2,
    adam_weight_decay=adam_weight_decay,
    muon_weight_dimension_numbers=lambda params: (
      jax.tree_util.tree_map_with_path(hidden, params)
    ),
  )


OPTIMIZERS = {
  "adabelief": optax.adabelief,
  "adadelta": optax.adadelta,
  "adafactor": optax.adafactor,
  "adagrad": optax.adagrad,
  "adam": optax.adam,
  "adamax": optax.adamax,
  "adamw": optax.adamw,
  "adan": optax.adan,
  "ademamix": optax.contrib.ademamix,
  "adopt": optax.contrib.adopt,
  "amsgrad": optax.amsgrad,
  "lamb": optax.lamb,
  "lars": optax.lars,
  "lion": optax.lion,
  "muon": muon,
  "nadam": optax.nadam,
  "nadamw": optax.nadamw,
  "novograd": optax.novograd,
  "prodigy": optax.contrib.prodigy,
  "radam": optax.radam,
  "rmsprop": optax.rmsprop,
  "sgd": optax.sgd,
  "yogi": optax.yogi,
}


def clipped(
  tx: optax.GradientTransformation, clip_norm: float
) -> optax.GradientTransformation:
  """Scales gradients longer than `clip_norm` down to it; 0 clips nothing."""
  if not clip_norm:
    return tx
  return optax.chain(optax.clip_by_global_norm(clip_norm), tx)
