"""ListOps as Long Range Arena has it (arXiv:2011.04006), by an encoder.

  python -m experiments.train --config=configs/lra/listops.py:performer

The variant `short` has 21 to 199 tokens in place of 501 to 1,999, fewer
examples and a smaller model.
"""

from ml_collections import ConfigDict

from configs.arena import SMALL, sequence_config


def get_config(variant: str = "") -> ConfigDict:
  short = "short" in variant.split(",")
  length = 200 if short else 2_000
  return sequence_config(
    ",".join(part for part in variant.split(",") if part != "short"),
    model="encoder",
    data={
      "name": "listops",
      "min_length": 20 if short else 500,
      "max_length": length,
      "max_depth": 10,
      "max_args": 10,
      "num_train": 32_000 if short else 96_000,
      "num_validation": 2_000,
      "num_test": 2_000,
      "seed": 0,
    },
    length=length,
    buckets=(50, 100) if short else (1_000,),
    epochs=3 if short else 10,
    **(SMALL if short else {}),
  )
