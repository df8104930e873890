"""Networks of convolutions on CIFAR-10, with the survey's recipe.

  python -m experiments.train --config=configs/networks/cifar10.py:mobilenet_v2
  python -m experiments.pareto --config=configs/networks/cifar10.py:resnet_18

The second trains and ships a quarter, half and the whole of a network's width.
Variants: the network's name comes first, `w` is its width, `augment`, `smooth`
and `epochs` as in `configs/survey/cifar10.py`. Where networks are for larger
images, their first layers keep places that they would skip.
"""

from ml_collections import ConfigDict

from configs.survey import cifar10
from effarch.config import did_you_mean, parse_variant
from effarch.errors import UserError

# What fits each to images of 32 x 32.
NETWORKS = {
  "resnet_18": {"stem": "small"},
  "resnet_20_cifar_option_a": {},
  "mobilenet_v1": {"stem": "small"},
  "mobilenet_v2": {"stem": "small"},
  "convnext_tiny": {"patch_size": 2},
}


def get_config(variant: str = "") -> ConfigDict:
  chosen = parse_variant(
    variant,
    network="resnet_20_cifar_option_a",
    w=1.0,
    augment=True,
    smooth=False,
    epochs=15,
  )
  name = str(chosen.network)
  if name not in NETWORKS:
    raise UserError(
      f"network {name!r} is unknown; {did_you_mean(name, NETWORKS)}"
    )
  config = cifar10.get_config(
    f"augment={chosen.augment},smooth={chosen.smooth},epochs={chosen.epochs}"
  )
  config.model = ConfigDict(
    {
      "name": name,
      **NETWORKS[name],
      "width_multiplier": chosen.w,
      "dtype": "float32",
    }
  )
  config.update(
    {"study": {"grid": {"model": {"width_multiplier": (0.25, 0.5, 1.0)}}}}
  )
  return config
