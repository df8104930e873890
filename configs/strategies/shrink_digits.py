"""A quarter of the bytes for scikit-learn's digits: shrink-and-improve.

  python -m experiments.strategy --config=configs/strategies/shrink_digits.py

Starts with the survey's CNN at half width, whose eight-bit file is the measure.
Variants: `w` the width that it starts with, `epochs`.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import digits
from effarch.config import parse_variant


def get_config(variant: str = "") -> ConfigDict:
  chosen: Any = parse_variant(variant, w=0.5, epochs=40)
  config: Any = digits.get_config(f"w={chosen.w}")
  del config.study
  config.training.epochs = chosen.epochs
  config.training.evaluate_every = max(1, chosen.epochs // 10)
  widths = {
    f"{kind}_{share}": {
      "model": {
        "convolution": kind,
        "width_multiplier": chosen.w * share / 100,
      }
    }
    for kind, shares in (
      ("standard", (15, 20, 25)),
      ("separable", (30, 45, 60)),
    )
    for share in shares
  }
  config.strategy = ConfigDict(
    {
      "name": "shrink_and_improve",
      "limits": ("size_bytes<=0.25x",),
      "shrink": widths,
      "improve": {
        "distil": {"techniques": ({"name": "distill", "teacher": "start"},)},
        "longer": {"training": {"epochs": 2 * chosen.epochs}},
      },
      "refine": {
        "int8_trained": {
          "techniques": ({"name": "quantize"},),
          "optimizer": {"learning_rate": 5e-4},
          "training": {"epochs": max(2, chosen.epochs // 4)},
          "export": {"precisions": ("trained",)},
        },
      },
      "tries": 3,
      "keep": 2,
      "seeds": (0, 1, 2),
      "budget": 40.0,
    }
  )
  return config
