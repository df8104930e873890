"""Induction heads (arXiv:2212.14052): what followed the trigger, by a decoder.

python -m experiments.train --config=configs/sequence/induction.py:hyena
"""

from ml_collections import ConfigDict

from configs.arena import SMALL, sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="decoder",
    data={
      "name": "induction_heads",
      "length": 64,
      "num_symbols": 15,
      "num_train": 10_000,
      "num_validation": 1_000,
      "num_test": 1_000,
      "seed": 0,
    },
    length=64,
    **SMALL,
  )
