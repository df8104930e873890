"""Data sources by name.

A source has `input_shape` and `class_names`, known without reading the data
(an image folder looks at names and one image), and `load("train" |
"validation" | "test")`, which gives a `Dataset`. What is read for one split
leaves the others alone: only the final evaluation loads `test`.
"""

from effarch.infrastructure.data.cifar import CIFAR10, CIFAR100
from effarch.infrastructure.data.dataset import Dataset, decode
from effarch.infrastructure.data.digits import Digits
from effarch.infrastructure.data.image_folder import ImageFolder

SOURCES = {
  "cifar10": CIFAR10,
  "cifar100": CIFAR100,
  "digits": Digits,
  "image_folder": ImageFolder,
}

__all__ = [
  "CIFAR10",
  "CIFAR100",
  "SOURCES",
  "Dataset",
  "Digits",
  "ImageFolder",
  "decode",
]
