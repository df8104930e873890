"""MNIST-1D by a small transformer whose layers have a structure.

python -m experiments.train --config=configs/low_rank/mnist1d.py:monarch

Every linear layer of its blocks is 128 x 128, those of attention as those
between. Variants: a key of `STRUCTURES`, or `dense`, comes first; `ratio` is
the share of parameters, and `epochs` and `seed` are the training's.
`benchmarks/low_rank_quality.py` trains all of them.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.arena import sequence_config
from effarch.architectures.low_rank import STRUCTURES
from effarch.config import did_you_mean, parse_variant
from effarch.errors import UserError

# Of inputs and outputs of all layers that have a structure.
FEATURES = 128
# Sparse numbers take parameters from the directions beside them.
_MORE: dict[str, dict[str, Any]] = {"low_rank_sparse": {"per_output": 4}}


def structure_config(name: str, ratio: float) -> dict[str, Any]:
  """Returns a structure's config; `ratio` is its share of parameters.

  Raises:
    UserError: there is no such structure.
  """
  if name not in STRUCTURES:
    hint = did_you_mean(name, (*STRUCTURES, "dense"))
    raise UserError(f"structure {name!r} is unknown; {hint}")
  return {"name": name, "params_ratio": ratio, **_MORE.get(name, {})}


def get_config(variant: str = "") -> ConfigDict:
  chosen: Any = parse_variant(
    variant, structure="low_rank", ratio=0.25, epochs=15, seed=0
  )
  config: Any = sequence_config(
    f"full,epochs={chosen.epochs},seed={chosen.seed}",
    model="encoder",
    data={
      "name": "mnist1d",
      "num_train": 4_000,
      "num_validation": 1_000,
      "num_test": 1_000,
      "seed": 0,
    },
    length=40,
    batch=64,
    features=FEATURES,
    depth=2,
    hidden=FEATURES,
    rate=1e-3,
  )
  config.model.feed_forward = "relu"
  if chosen.structure == "dense":
    return config
  config.techniques = (
    {
      "name": "structured",
      "structure": structure_config(chosen.structure, chosen.ratio),
      "where": "blocks.*",
      "seed": chosen.seed,
    },
  )
  return config
