"""Are two discs joined by a dashed path? The pixels in turn, by an encoder.

  python -m experiments.train --config=configs/lra/pathfinder.py:s5

The images, 32 x 32, are generated; `pixels=64` and so on makes them larger.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.arena import sequence_config
from effarch.config import parse_variant


def get_config(variant: str = "") -> ConfigDict:
  parts = variant.split(",")
  sizes = [part for part in parts if part.startswith("pixels=")]
  chosen: Any = parse_variant(",".join(sizes), pixels=32)
  return sequence_config(
    ",".join(part for part in parts if part not in sizes),
    model="encoder",
    data={
      "name": "pixel_sequence",
      "source": {
        "name": "pathfinder",
        "size": chosen.pixels,
        "num_train": 40_000,
        "num_validation": 5_000,
        "num_test": 5_000,
        "seed": 0,
      },
      "grayscale": True,
      "as_tokens": True,
    },
    length=chosen.pixels**2,
  )
