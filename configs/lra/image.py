r"""The pixels of grey CIFAR-10 images, one after the other, by an encoder.

  python -m experiments.train --config=configs/lra/image.py:s4d \
    --config.data.source.path=~/cifar10

Of any image source: `--config.data.source.name=image_folder`.
"""

from ml_collections import ConfigDict

from configs.arena import sequence_config


def get_config(variant: str = "") -> ConfigDict:
  return sequence_config(
    variant,
    model="encoder",
    data={
      "name": "pixel_sequence",
      "source": {
        "name": "cifar10",
        "path": "~/cifar10",
        "validation_fraction": 0.1,
        "split_seed": 0,
      },
      "grayscale": True,
      "as_tokens": True,
    },
    length=1024,
  )
