"""More right digits from few labels in no more bytes: grow-improve-shrink.

  python -m experiments.strategy --config=configs/strategies/grow_digits.py

A twentieth of the training labels of scikit-learn's digits, 62 of them. Starts
with the survey's CNN at a quarter of its width, without augmentation. Variants:
`w` the width that it starts with, `epochs`.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import digits
from effarch.config import parse_variant


def get_config(variant: str = "") -> ConfigDict:
  chosen: Any = parse_variant(variant, w=0.25, epochs=400)
  config: Any = digits.get_config(f"w={chosen.w}")
  del config.study
  config.data.train_fraction = 0.05
  config.techniques = ()
  config.update(
    {
      "training": {
        "epochs": chosen.epochs,
        "batch_size": 31,
        "evaluate_every": max(1, chosen.epochs // 10),
      },
      "strategy": {
        "name": "grow_improve_shrink",
        "limits": ("size_bytes<=1x",),
        "grow": {
          "width_x2": {"model": {"width_multiplier": 2 * chosen.w}},
          "width_x4": {"model": {"width_multiplier": 4 * chosen.w}},
        },
        "improve": {
          "shift": {
            "techniques": (
              {
                "name": "flip_translate",
                "horizontal_flip": False,
                "max_shift": 1,
              },
            )
          },
          "rotate": {"techniques": ({"name": "rotate", "max_degrees": 10},)},
          "mixup": {"techniques": ({"name": "mixup", "alpha": 0.2},)},
        },
        "shrink": {
          "alone": {},
          "distil": {"techniques": ({"name": "distill", "teacher": "grown"},)},
        },
        "seeds": (0, 1, 2),
        "budget": 150.0,
      },
    }
  )
  return config
