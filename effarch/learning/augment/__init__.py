"""Augmentation on the device, inside the compiled step, over whole batches.

Images are floats in [-1, 1], black is -1, and they stay in that range.
"""

from effarch.learning.augment.auto_augment import AutoAugment
from effarch.learning.augment.edits import (
  RandomDelete,
  RandomInsert,
  RandomSwap,
)
from effarch.learning.augment.erase import Cutout, RandomErasing
from effarch.learning.augment.geometry import Rotate, Shear
from effarch.learning.augment.jitter import Blur, ColourJitter
from effarch.learning.augment.mix import CutMix, Mixup, MixupCutMix
from effarch.learning.augment.policies import RandAugment, TrivialAugment
from effarch.learning.augment.shift import AlternatingFlip, FlipTranslate
from effarch.learning.augment.signals import SpecAugment
from effarch.learning.augment.tabular import Smote
from effarch.learning.augment.tokens import SpanMasking, SwitchOut, WordDropout
from effarch.learning.augment.worst import WorstCase

AUGMENTATIONS = {
  "flip_translate": FlipTranslate,
  "alternating_flip": AlternatingFlip,
  "rotate": Rotate,
  "shear": Shear,
  "colour_jitter": ColourJitter,
  "blur": Blur,
  "cutout": Cutout,
  "random_erasing": RandomErasing,
  "rand_augment": RandAugment,
  "auto_augment": AutoAugment,
  "trivial_augment": TrivialAugment,
  "worst_case": WorstCase,
  "mixup": Mixup,
  "cutmix": CutMix,
  "mixup_cutmix": MixupCutMix,
  "smote": Smote,
  "word_dropout": WordDropout,
  "switch_out": SwitchOut,
  "span_masking": SpanMasking,
  "random_swap": RandomSwap,
  "random_delete": RandomDelete,
  "random_insert": RandomInsert,
  "spec_augment": SpecAugment,
}
