"""ListOps as Long Range Arena has it (arXiv:2011.04006), by an encoder.

  python -m experiments.train --config=configs/lra/listops.py:performer

The variant `short` has 50 to 200 tokens in place of 500 to 2,000, and fewer
examples.
"""

from ml_collections import ConfigDict

from configs.arena import sequence_config


def get_config(variant: str = "") -> ConfigDict:
  short = "short" in variant.split(",")
  length = 200 if short else 2_000
  return sequence_config(
    ",".join(part for part in variant.split(",") if part != "short"),
    model="encoder",
    data={
      "name": "listops",
      "min_length": length // 4,
      "max_length": length,
      "max_depth": 10,
      "max_args": 10,
      "num_train": 20_000 if short else 96_000,
      "num_validation": 2_000,
      "num_test": 2_000,
      "seed": 0,
    },
    length=length,
    buckets=(length // 2,),
    epochs=8 if short else 10,
    rate=1e-3,
  )
