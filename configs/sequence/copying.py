"""Copying a string (arXiv:2402.01032), by a decoder.

python -m experiments.train --config=configs/sequence/copying.py:mamba2
"""

from ml_collections import ConfigDict

from configs.arena import SMALL, sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="decoder",
    data={
      "name": "copying",
      "length": 32,
      "num_symbols": 26,
      "num_train": 10_000,
      "num_validation": 1_000,
      "num_test": 1_000,
      "seed": 0,
    },
    length=64,
    **SMALL,
  )
