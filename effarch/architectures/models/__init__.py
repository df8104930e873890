"""Models by name.

A model is built from `input_shape` and `num_classes`, which the data gives,
from `vocab_size` if it takes tokens, and its own arguments. It maps
`B *input_shape` to logits, `B K` or those of each token, `B T K`. Networks of
convolutions that were published have their published shape, classes and width
where nothing else is told; `in_features` alone changes the images' channels.
"""

import functools

from effarch.architectures.models.convnext import ConvNeXt
from effarch.architectures.models.generate import generate
from effarch.architectures.models.mobilenet import MobileNetV1, MobileNetV2
from effarch.architectures.models.resnet import CifarResNet, ResNet
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
  "resnet_18": ResNet,
  "resnet_20_cifar_option_a": CifarResNet,
  "mobilenet_v1": MobileNetV1,
  "mobilenet_v1_1.0": MobileNetV1,
  "mobilenet_v1_0.5": functools.partial(MobileNetV1, width_multiplier=0.5),
  "mobilenet_v2": MobileNetV2,
  "mobilenet_v2_1.0": MobileNetV2,
  "convnext_tiny": ConvNeXt,
}

__all__ = [
  "MODELS",
  "CifarResNet",
  "ConvNeXt",
  "Decoder",
  "DualEncoder",
  "Encoder",
  "MobileNetV1",
  "MobileNetV2",
  "ResNet",
  "SurveyCNN",
  "VisionTransformer",
  "generate",
]
