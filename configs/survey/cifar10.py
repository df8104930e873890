"""The survey's CNN on CIFAR-10, augmented (arXiv:2106.08962).

  python -m experiments.train --config=configs/survey/cifar10.py:w=0.25
  python -m experiments.pareto --config=configs/survey/cifar10.py

The second trains and ships all of the survey's widths up to 1. Variants: `w`
the width of the first, `augment` and `smooth` the techniques, `epochs`.
The survey reports 71.7 % at width 0.05 and 84.1 % at 0.25 with augmentation,
after 100 epochs, best test epoch. What five epochs reached at two widths, on
CIFAR-10 (JPEG), and how long they took, is in `results/cifar10_jpeg_cpu.json`.
"""

from ml_collections import ConfigDict

from effarch.config import parse_variant


def get_config(variant: str = "") -> ConfigDict:
  chosen = parse_variant(
    variant,
    w=1.0,
    convolution="standard",
    augment=True,
    smooth=False,
    epochs=15,
  )
  techniques = []
  if chosen.augment:
    techniques.append(
      {"name": "flip_translate", "horizontal_flip": True, "max_shift": 3}
    )
  if chosen.smooth:
    techniques.append({"name": "label_smoothing", "smoothing": 0.1})
  return ConfigDict(
    {
      "seed": 0,
      "data": {
        "name": "cifar10",
        "path": "~/cifar10",
        "validation_fraction": 0.1,
        "split_seed": 0,
      },
      "model": {
        "name": "survey_cnn",
        "width_multiplier": chosen.w,
        "convolution": chosen.convolution,
        "dtype": "float32",
      },
      "techniques": tuple(techniques),
      "optimizer": {
        "name": "adamw",
        "learning_rate": 5e-3,
        "weight_decay": 1e-4,
        "clip_norm": 0.0,
        "schedule": {"name": "one_cycle", "peak_fraction": 0.3},
      },
      "training": {
        "epochs": chosen.epochs,
        "batch_size": 128,
        "evaluate_every": 1,
        "steps_per_dispatch": 0,
      },
      "export": {"precisions": ("float32", "int8"), "calibration_size": 200},
      "measure": {"batch_sizes": (1,), "train": False},
      "study": {
        "grid": {
          "model": {"width_multiplier": (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)}
        },
        "quality": "accuracy",
        "footprint": ("size_bytes", "latency_us"),
      },
    }
  )
