"""Multi-query associative recall (MQAR, arXiv:2312.04927), by a decoder.

python -m experiments.train --config=configs/sequence/recall.py:delta
"""

from ml_collections import ConfigDict

from configs.arena import SMALL, sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="decoder",
    data={
      "name": "associative_recall",
      "length": 64,
      "num_pairs": 8,
      "num_keys": 32,
      "num_values": 32,
      "num_train": 10_000,
      "num_validation": 1_000,
      "num_test": 1_000,
      "seed": 0,
    },
    length=64,
    epochs=8,
    **SMALL,
  )
