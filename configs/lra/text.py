r"""Bytes of texts by class, as Long Range Arena's IMDB, by an encoder.

  python -m experiments.train --config=configs/lra/text.py:linear \
    --config.data.path=~/aclImdb

The path is a folder or a tar archive with `train/<class>/*` and
`test/<class>/*`, or with `<class>/*`.
"""

from ml_collections import ConfigDict

from configs.arena import sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="encoder",
    data={
      "name": "text_folder",
      "path": "~/aclImdb",
      "classes": ("neg", "pos"),
      "max_length": 4096,
      "validation_fraction": 0.1,
      "split_seed": 0,
    },
    length=4096,
    buckets=(1024, 2048),
  )
