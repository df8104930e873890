"""Techniques that change training and nothing at inference, by name."""

from effarch.learning.augment import AUGMENTATIONS
from effarch.learning.average import SWA, WeightEMA
from effarch.learning.distill import (
  Distill,
  DistillFeatures,
  MutualLearning,
  PseudoLabels,
  SelfDistill,
)
from effarch.learning.drop import (
  DropBlock,
  Dropout,
  SpatialDropout,
  StochasticDepth,
)
from effarch.learning.lookahead import Lookahead
from effarch.learning.pretrained import Pretrained
from effarch.learning.r_drop import RDrop
from effarch.learning.resize import ProgressiveResizing
from effarch.learning.schedule_free import ScheduleFree
from effarch.learning.select import Forgetting, HardExamples, SelfPaced
from effarch.learning.sharpness import ASAM, SAM
from effarch.learning.smooth import LabelSmoothing
from effarch.learning.views import TestTimeAugmentation

TECHNIQUES = {
  **AUGMENTATIONS,
  "asam": ASAM,
  "distill": Distill,
  "distill_features": DistillFeatures,
  "drop_block": DropBlock,
  "dropout": Dropout,
  "forgetting": Forgetting,
  "hard_examples": HardExamples,
  "label_smoothing": LabelSmoothing,
  "lookahead": Lookahead,
  "mutual_learning": MutualLearning,
  "pretrained": Pretrained,
  "progressive_resizing": ProgressiveResizing,
  "pseudo_labels": PseudoLabels,
  "r_drop": RDrop,
  "sam": SAM,
  "schedule_free": ScheduleFree,
  "self_distill": SelfDistill,
  "self_paced": SelfPaced,
  "spatial_dropout": SpatialDropout,
  "stochastic_depth": StochasticDepth,
  "swa": SWA,
  "test_time_augmentation": TestTimeAugmentation,
  "weight_ema": WeightEMA,
}
