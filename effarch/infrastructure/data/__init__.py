"""Data sources by name.

A source has `input_shape` and `class_names`, known without reading the data
(an image folder looks at names and one image), and `load("train" |
"validation" | "test")`, which gives a `Dataset`. What is read for one split
leaves the others alone: only the final evaluation loads `test`.
"""

from effarch.infrastructure.data.cifar import CIFAR10, CIFAR100
from effarch.infrastructure.data.copying import Copying
from effarch.infrastructure.data.dataset import Dataset, Source, decode
from effarch.infrastructure.data.digits import Digits
from effarch.infrastructure.data.image_folder import ImageFolder
from effarch.infrastructure.data.induction import InductionHeads
from effarch.infrastructure.data.listops import ListOps
from effarch.infrastructure.data.mnist1d import MNIST1D
from effarch.infrastructure.data.recall import AssociativeRecall

SOURCES = {
  "cifar10": CIFAR10,
  "cifar100": CIFAR100,
  "digits": Digits,
  "image_folder": ImageFolder,
  "associative_recall": AssociativeRecall,
  "copying": Copying,
  "induction_heads": InductionHeads,
  "listops": ListOps,
  "mnist1d": MNIST1D,
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
