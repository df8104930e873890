"""One model and one budget for all token mixers: what sequence tasks share.

Variants of all their configs, `FILE:performer,seed=1` or `FILE:full+local`:
the mixer's name comes first, several joined by `+` take turns by layer;
`features`, `depth`, `hidden`, `heads` and `window` size the model, `epochs`,
`batch`, `rate` and `seed` the training.

The model with `full` sets the budget of parameters and multiply-accumulates,
which others stay within. The hidden features of the feed-forward networks are
as many as that leaves; where nothing is left, there are fewer layers, and where
a single one is too much, it is the model.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.sizes import ARGUMENTS, Size
from effarch.architectures.models import MODELS
from effarch.automation.budget import Budget, largest
from effarch.config import did_you_mean, parse_variant
from effarch.errors import UserError
from effarch.infrastructure.cost import measure

# Of models that a processor trains in minutes.
SMALL: dict[str, Any] = {
  "features": 64,
  "depth": 2,
  "hidden": 128,
  "rate": 3e-3,
}


def sequence_config(
  variant: str | None,
  *,
  model: str,
  data: dict[str, Any],
  length: int,
  best: str = "accuracy",
  buckets: tuple[int, ...] = (),
  **defaults: Any,
) -> ConfigDict:
  """Returns a task's config for the mixers that a variant names.

  Args:
    variant: what the user wrote after the colon.
    model: `"encoder"`, `"dual_encoder"` or `"decoder"`.
    data: the source.
    length: of its sequences.
    best: what decides which checkpoint is best.
    buckets: see `effarch.infrastructure.training.Loop`.
    **defaults: of what variants can change.

  Raises:
    UserError: the variant has an unknown key or mixer, or an impossible size.
  """
  if length < 1:
    raise UserError(f"a sequence of {length} tokens is none")
  chosen: Any = parse_variant(
    variant,
    **{
      "mixer": "full",
      "features": 128,
      "depth": 4,
      "hidden": 256,
      "heads": 4,
      "window": 2 ** round(math.log2(length) / 2 + 1),
      "epochs": 10,
      "batch": 32,
      "rate": 1e-3,
      "seed": 0,
      **defaults,
    },
  )
  for name in ("features", "depth", "heads", "window"):
    if chosen[name] < 1:
      raise UserError(f"variant {name!r}: {chosen[name]} is not positive")
  size = Size(t=length, c=chosen.features, n=chosen.heads, w=chosen.window)
  layers = mixers(chosen.mixer, size)
  if len(layers) > chosen.depth:
    raise UserError(
      f"variant 'depth': {chosen.depth} layers are fewer than {len(layers)} "
      "mixers"
    )
  fitted = fit(
    *("decoder" if model == "decoder" else "encoder", chosen.mixer, size),
    *(chosen.depth, chosen.hidden),
  )
  return ConfigDict(
    {
      "seed": chosen.seed,
      "data": data,
      "model": {
        "name": model,
        "features": chosen.features,
        "num_heads": chosen.heads,
        **fitted,
        "mixers": layers,
        "norm": "pre",
        "feed_forward": "swiglu",
        "positions": "learned",
        "dropout_rate": 0.0,
        "dtype": "float32",
      },
      "techniques": (),
      "optimizer": {
        "name": "adamw",
        "learning_rate": chosen.rate,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "schedule": {"name": "cosine", "warmup_fraction": 0.1},
      },
      "training": {
        "epochs": chosen.epochs,
        "batch_size": chosen.batch,
        "evaluate_every": 1,
        "steps_per_dispatch": 0,
        "buckets": buckets,
        "best": best,
      },
      "export": {"precisions": ("float32",), "calibration_size": 200},
      "measure": {"batch_sizes": (1,), "train": False},
    }
  )


def mixers(names: str, size: Size) -> tuple[dict[str, Any], ...]:
  """Returns the configs of mixers, `full+local`, with comparable arguments.

  Raises:
    UserError: a name is unknown.
  """
  found = []
  for name in names.split("+"):
    if name not in ATTENTION:
      hint = did_you_mean(name, ATTENTION)
      raise UserError(f"mixer {name!r} is unknown; {hint}")
    found.append({"name": name, **ARGUMENTS[name](size)})
  return tuple(found)


@functools.cache
def fit(
  model: str, names: str, size: Size, depth: int, hidden: int
) -> dict[str, int]:
  """Returns `depth` and `hidden_features` within the budget of `full`.

  Where a mixer's own parameters are more than that, as those for each place or
  pair of places may be in long sequences, the smallest model there is.

  Embeddings and classifiers cost all models the same, whatever their number
  of tokens and classes.
  """
  full = cost(model, "full", size, depth, hidden)
  fewest = names.count("+") + 1
  for layers in range(depth, fewest - 1, -1):
    hidden_features = largest(
      lambda f, layers=layers: cost(model, names, size, layers, f), full
    )
    if hidden_features is not None:
      return {"depth": layers, "hidden_features": hidden_features}
  return {"depth": fewest, "hidden_features": 0}


@functools.cache
def cost(model: str, names: str, size: Size, depth: int, hidden: int) -> Budget:
  """Returns what a model of two tokens and two classes costs.

  Raises:
    UserError: there is no such model.
  """

  def make():
    return MODELS[model](
      (size.t,),
      2,
      vocab_size=2,
      features=size.c,
      num_heads=size.n,
      depth=depth,
      hidden_features=hidden,
      mixers=mixers(names, size),
      rngs=nnx.Rngs(0),
    )

  try:
    made = nnx.eval_shape(make)
  except ValueError as error:
    raise UserError(str(error)) from None
  report = measure(made, jax.ShapeDtypeStruct((1, size.t), "int32"))
  return Budget(report.params, report.macs)
