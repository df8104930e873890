r"""Pairs of texts that match or not, as Long Range Arena's AAN.

  python -m experiments.train --config=configs/lra/retrieval.py:local \
    --config.data.path=~/aan

The path is a folder or a tar archive with `train.tsv` and `test.tsv`, or one
such file: label, first text, second text. A dual encoder sees their bytes.
"""

from ml_collections import ConfigDict

from configs.arena import sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="dual_encoder",
    data={
      "name": "text_pairs",
      "path": "~/aan",
      "max_length": 4000,
      "validation_fraction": 0.1,
      "split_seed": 0,
    },
    length=4000,
    buckets=(1000, 2000),
  )
