"""Sources of images by name, for sources that are made of these."""

from effarch.infrastructure.data.cifar import CIFAR10, CIFAR100
from effarch.infrastructure.data.digits import Digits
from effarch.infrastructure.data.image_folder import ImageFolder
from effarch.infrastructure.data.pathfinder import Pathfinder

IMAGES = {
  "cifar10": CIFAR10,
  "cifar100": CIFAR100,
  "digits": Digits,
  "image_folder": ImageFolder,
  "pathfinder": Pathfinder,
}
