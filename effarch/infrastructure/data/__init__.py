"""Data sources by name.

A `Source` tells the shape of its inputs and its classes without reading the
data, where it can (an image folder looks at names and one image), and
`load("train" | "validation" | "test")` gives a `Dataset`. What is read for one
split leaves the others alone: only the final evaluation loads `test`.
"""

from effarch.infrastructure.data.cifar import CIFAR10, CIFAR100
from effarch.infrastructure.data.copying import Copying
from effarch.infrastructure.data.dataset import Dataset, Source, decode
from effarch.infrastructure.data.digits import Digits
from effarch.infrastructure.data.image_folder import ImageFolder
from effarch.infrastructure.data.images import IMAGES
from effarch.infrastructure.data.induction import InductionHeads
from effarch.infrastructure.data.listops import ListOps
from effarch.infrastructure.data.mnist1d import MNIST1D
from effarch.infrastructure.data.pathfinder import Pathfinder
from effarch.infrastructure.data.pixel_sequence import PixelSequence
from effarch.infrastructure.data.recall import AssociativeRecall
from effarch.infrastructure.data.text_file import TextFile
from effarch.infrastructure.data.text_folder import TextFolder
from effarch.infrastructure.data.text_pairs import TextPairs

SOURCES = {
  **IMAGES,
  "pixel_sequence": PixelSequence,
  "mnist1d": MNIST1D,
  "listops": ListOps,
  "associative_recall": AssociativeRecall,
  "copying": Copying,
  "induction_heads": InductionHeads,
  "text_file": TextFile,
  "text_folder": TextFolder,
  "text_pairs": TextPairs,
}

__all__ = [
  "CIFAR10",
  "CIFAR100",
  "IMAGES",
  "MNIST1D",
  "SOURCES",
  "AssociativeRecall",
  "Copying",
  "Dataset",
  "Digits",
  "ImageFolder",
  "InductionHeads",
  "ListOps",
  "Pathfinder",
  "PixelSequence",
  "Source",
  "TextFile",
  "TextFolder",
  "TextPairs",
  "decode",
]
