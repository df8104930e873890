"""Learning from teachers: by what they say, by what is in them, from peers."""

from effarch.learning.distill.inner import DistillFeatures
from effarch.learning.distill.logits import Distill, PseudoLabels
from effarch.learning.distill.mutual import MutualLearning
from effarch.learning.distill.own import SelfDistill
from effarch.learning.distill.teacher import Taught

__all__ = [
  "Distill",
  "DistillFeatures",
  "MutualLearning",
  "PseudoLabels",
  "SelfDistill",
  "Taught",
]
