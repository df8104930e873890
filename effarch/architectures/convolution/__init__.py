"""Convolutions and blocks of them by name.

Each is made of `in_features`, `out_features`, `kernel_size` and named
arguments, `strides` among them, and maps `B H W C` to `B H' W' F`.
"""

from effarch.architectures.convolution.blur_pool import BlurConv, blur_pool
from effarch.architectures.convolution.conditional import (
  CondConv,
  conditional_conv,
)
from effarch.architectures.convolution.contractions import plain_convolutions
from effarch.architectures.convolution.conv import Conv, conv
from effarch.architectures.convolution.conv_next import ConvNeXtBlock
from effarch.architectures.convolution.conv_norm import ConvNorm, fold, folded
from effarch.architectures.convolution.depthwise import (
  DepthwiseConv,
  depthwise_conv,
)
from effarch.architectures.convolution.fused_inverted_residual import (
  FusedInvertedResidual,
)
from effarch.architectures.convolution.ghost import GhostBottleneck, GhostConv
from effarch.architectures.convolution.grouped import GroupedConv
from effarch.architectures.convolution.inverted_residual import (
  InvertedResidual,
)
from effarch.architectures.convolution.large_kernel import LargeKernel
from effarch.architectures.convolution.mobile_one import MobileOne
from effarch.architectures.convolution.octave import OctaveConv
from effarch.architectures.convolution.octave_block import OctaveBlock
from effarch.architectures.convolution.partial import (
  FasterNetBlock,
  PartialConv,
)
from effarch.architectures.convolution.pool import max_pool
from effarch.architectures.convolution.rep_vgg import RepVGG
from effarch.architectures.convolution.separable import SeparableConv
from effarch.architectures.convolution.shuffle import (
  ShuffleV1,
  ShuffleV2,
  channel_shuffle,
)
from effarch.architectures.convolution.spatially_separable import (
  SpatiallySeparable,
)
from effarch.architectures.convolution.squeeze_excite import SqueezeExcite
from effarch.architectures.convolution.universal_inverted_residual import (
  UniversalInvertedResidual,
)

CONVOLUTIONS = {
  "standard": Conv,
  "separable": SeparableConv,
  "conv_norm": ConvNorm,
  "grouped": GroupedConv,
  "inverted_residual": InvertedResidual,
  "fused_inverted_residual": FusedInvertedResidual,
  "universal_inverted_residual": UniversalInvertedResidual,
  "shuffle_v1": ShuffleV1,
  "shuffle_v2": ShuffleV2,
  "ghost": GhostConv,
  "ghost_bottleneck": GhostBottleneck,
  "rep_vgg": RepVGG,
  "mobile_one": MobileOne,
  "large_kernel": LargeKernel,
  "conv_next": ConvNeXtBlock,
  "partial": PartialConv,
  "faster_net": FasterNetBlock,
  "conditional": CondConv,
  "octave": OctaveBlock,
  "blur": BlurConv,
  "spatially_separable": SpatiallySeparable,
}

__all__ = [
  "CONVOLUTIONS",
  "BlurConv",
  "CondConv",
  "Conv",
  "ConvNeXtBlock",
  "ConvNorm",
  "DepthwiseConv",
  "FasterNetBlock",
  "FusedInvertedResidual",
  "GhostBottleneck",
  "GhostConv",
  "GroupedConv",
  "InvertedResidual",
  "LargeKernel",
  "MobileOne",
  "OctaveBlock",
  "OctaveConv",
  "PartialConv",
  "RepVGG",
  "SeparableConv",
  "ShuffleV1",
  "ShuffleV2",
  "SpatiallySeparable",
  "SqueezeExcite",
  "UniversalInvertedResidual",
  "blur_pool",
  "channel_shuffle",
  "conditional_conv",
  "conv",
  "depthwise_conv",
  "fold",
  "folded",
  "max_pool",
  "plain_convolutions",
]
