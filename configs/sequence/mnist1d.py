"""MNIST-1D (arXiv:2011.14439): classes of 40 floats, by an encoder.

python -m experiments.train --config=configs/sequence/mnist1d.py:s4d
"""

from ml_collections import ConfigDict

from configs.arena import SMALL, sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="encoder",
    data={
      "name": "mnist1d",
      "num_train": 4_000,
      "num_validation": 1_000,
      "num_test": 1_000,
      "seed": 0,
    },
    length=40,
    epochs=20,
    batch=64,
    **SMALL,
  )
