"""What five techniques buy, each by itself, from three seeds.

  FILE=configs/learning/compare.py
  python -m experiments.compare --config=$FILE:digits
  python -m experiments.compare --config=$FILE:mnist1d
  python -m experiments.compare --config=$FILE:cifar10

Distillation, augmentation, mixup, an average of weights and SAM, each beside
the same training without it, at equal epochs and at equal time. Variants: the
data comes first; `epochs`. The digits have 62 labels to learn from, a twentieth
of theirs; 216 others choose the epoch. A teacher is a wider model that has
learned from the same examples in the same epochs.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from configs import digits
from configs.sequence import mnist1d
from configs.survey import cifar10
from effarch.config import did_you_mean, parse_variant
from effarch.errors import UserError


def _digits() -> ConfigDict:
  config: Any = digits.get_config("w=0.25")
  config.data.train_fraction = 0.05
  config.update(
    {"training": {"epochs": 500, "batch_size": 31, "evaluate_every": 20}}
  )
  return config


def _mnist1d() -> ConfigDict:
  return mnist1d.get_config("gmlp,features=32,hidden=64,epochs=15")


def _cifar10() -> ConfigDict:
  return cifar10.get_config("w=0.1,epochs=10")


# By data: the config; what differs in the teacher's; the augmentation, of which
# some are for images; and a decay of averages that forgets within about a tenth
# of the steps: of 1,000, 930 and 3,510.
_STUDIES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], float]] = {
  # RandAugment's translations are for 32 pixels.
  "digits": (
    _digits,
    {"model": {"width_multiplier": 1.0}},
    {"name": "rand_augment", "max_translation": 2.5},
    0.99,
  ),
  "mnist1d": (
    _mnist1d,
    {"model": {"features": 64, "hidden_features": 128}},
    {"name": "spec_augment"},
    0.99,
  ),
  "cifar10": (
    _cifar10,
    {"model": {"width_multiplier": 0.5}},
    {"name": "rand_augment"},
    0.997,
  ),
}


def get_config(variant: str = "") -> ConfigDict:
  chosen = parse_variant(variant, data="digits", epochs=0)
  name = str(chosen.data)
  if name not in _STUDIES:
    raise UserError(f"data {name!r} is none; {did_you_mean(name, _STUDIES)}")
  base, teacher, augmentation, decay = _STUDIES[name]
  config: Any = base()
  config.techniques = ()  # So that each arm stands alone.
  if chosen.epochs:
    config.training.epochs = chosen.epochs
  config.compare = ConfigDict(
    {
      "arms": {
        "distill": {"name": "distill", "teacher": "wide"},
        augmentation["name"]: augmentation,
        "mixup": {"name": "mixup", "alpha": 0.2},
        "weight_ema": {"name": "weight_ema", "decay": decay},
        "sam": {"name": "sam", "rho": 0.05},
      },
      "seeds": (0, 1, 2),
      "time": True,
      "teachers": {"wide": teacher},
    }
  )
  return config
