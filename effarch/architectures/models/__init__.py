"""Models by name.

A model is built from `input_shape` and `num_classes`, which the data gives,
from `vocab_size` if it takes tokens, and its own arguments. It maps
`B *input_shape` to logits, `B K` or those of each token, `B T K`.
"""

from effarch.architectures.models.generate import generate
from effarch.architectures.models.survey_cnn import SurveyCNN
from effarch.architectures.models.transformer import (
  Decoder,
  DualEncoder,
  Encoder,
)
from effarch.architectures.models.vision_transformer import VisionTransformer

MODELS = {
  "survey_cnn": SurveyCNN,
  "encoder": Encoder,
  "dual_encoder": DualEncoder,
  "decoder": Decoder,
  "vision_transformer": VisionTransformer,
}

__all__ = [
  "MODELS",
  "Decoder",
  "DualEncoder",
  "Encoder",
  "SurveyCNN",
  "VisionTransformer",
  "generate",
]
