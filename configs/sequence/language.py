r"""The next character of any text, by a decoder.

  python -m experiments.train --config=configs/sequence/language.py:mamba2 \
    --config.data.path=FILE

`--config.data.tokens=byte` reads what is no UTF-8. Bits for each character are
the loss, in nats, over `log 2`.
"""

from ml_collections import ConfigDict

from configs.arena import sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="decoder",
    data={
      "name": "text_file",
      "path": "~/text.txt",
      "tokens": "character",
      "length": 256,
      "validation_fraction": 0.05,
      "test_fraction": 0.05,
    },
    length=256,
    best="loss",
    rate=2e-3,
  )
