"""Techniques that change training and nothing at inference, by name."""

from effarch.learning.augment import FlipTranslate
from effarch.learning.pretrained import Pretrained
from effarch.learning.smooth import LabelSmoothing

TECHNIQUES = {
  "flip_translate": FlipTranslate,
  "label_smoothing": LabelSmoothing,
  "pretrained": Pretrained,
}
