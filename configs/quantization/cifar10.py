"""Networks on CIFAR-10 in few bits, after training and trained on.

  FILE=configs/quantization/cifar10.py
  python -m experiments.train  --config=$FILE:separable
  python -m experiments.export --workdir=runs/quantization/cifar10/separable
  python -m experiments.train  --config=$FILE:separable,weights=int4

The first trains in float; the second ships float, int8 and int4 files, rounded
after training; the third goes on from the first with rounded weights and
activations, and ships as it is trained. Variants: the network comes first;
`weights` their format, `scales` `channel` or `tensor`, `learned` trains scales,
`start` the run that is gone on from, `epochs` of either. What came out is in
`results/quantization_cpu.json`.
"""

from ml_collections import ConfigDict

from configs.survey import cifar10
from effarch.config import did_you_mean, parse_variant
from effarch.errors import UserError

NETWORKS = {
  "survey_cnn": {"name": "survey_cnn", "width_multiplier": 0.25},
  "separable": {
    "name": "survey_cnn",
    "width_multiplier": 0.5,
    "convolution": "separable",
  },
  "mobilenet_v2": {
    "name": "mobilenet_v2",
    "width_multiplier": 0.35,
    "stem": "small",
  },
  "vision_transformer": {
    "name": "vision_transformer",
    "patch_size": 4,
    "features": 64,
    "depth": 4,
    "num_heads": 4,
  },
}
_START = "runs/quantization/cifar10"
# Of a float training, and of what goes on from it.
_EPOCHS = (15, 3)


def get_config(variant: str = "") -> ConfigDict:
  chosen = parse_variant(
    variant,
    network="survey_cnn",
    weights="",
    scales="channel",
    learned=False,
    start="",
    epochs=0,
    seed=0,
  )
  name = str(chosen.network)
  if name not in NETWORKS:
    raise UserError(
      f"network {name!r} is unknown; {did_you_mean(name, NETWORKS)}"
    )
  epochs = chosen.epochs or _EPOCHS[bool(chosen.weights)]
  config = cifar10.get_config(f"epochs={epochs}")
  config.model = ConfigDict({**NETWORKS[name], "dtype": "float32"})
  changes = {
    "seed": chosen.seed,
    "export": {"precisions": ("float32", "int8", "int4")},
  }
  if name == "vision_transformer":
    changes["optimizer"] = {"learning_rate": 1e-3}
  if chosen.weights:
    start = {"name": "pretrained", "folder": chosen.start or f"{_START}/{name}"}
    rounds = {
      "name": "quantize",
      "weights": chosen.weights,
      "per": chosen.scales,
      "learned": chosen.learned,
    }
    augments = config.to_dict()["techniques"]
    config.techniques = (start, *augments, rounds)
    changes["optimizer"] = {"learning_rate": 5e-4, "weight_decay": 0.0}
    changes["export"] = {"precisions": ("trained",)}
  config.update(changes)
  return config
