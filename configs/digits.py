"""Twelve artifacts on scikit-learn's digits: a first Pareto report.

  python -m experiments.pareto --config=configs/digits.py

Standard and depthwise-separable survey CNNs at three widths, each as a float
and an int8 LiteRT file. What came out is in `results/digits_cpu.json`.
"""

from ml_collections import ConfigDict

from configs.survey import cifar10


def get_config(variant: str = "") -> ConfigDict:
  config = cifar10.get_config(variant)
  config.data = ConfigDict(
    {
      "name": "digits",
      "validation_fraction": 0.15,
      "test_fraction": 0.2,
      "split_seed": 0,
    }
  )
  # A mirrored digit is another sign.
  config.techniques = (
    {"name": "flip_translate", "horizontal_flip": False, "max_shift": 1},
    {"name": "label_smoothing", "smoothing": 0.1},
  )
  config.update(
    {
      "training": {"epochs": 40, "batch_size": 64, "evaluate_every": 4},
      "study": {
        "grid": {
          "model": {
            "convolution": ("standard", "separable"),
            "width_multiplier": (0.05, 0.15, 0.5),
          }
        }
      },
    }
  )
  return config
