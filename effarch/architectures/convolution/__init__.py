"""Convolutions by name; each maps `B H W C` to `B H' W' F`."""

from effarch.architectures.convolution.conv import Conv, conv
from effarch.architectures.convolution.conv_norm import ConvNorm, fold, folded
from effarch.architectures.convolution.depthwise import (
  DepthwiseConv,
  depthwise_conv,
)
from effarch.architectures.convolution.pool import max_pool
from effarch.architectures.convolution.separable import SeparableConv

CONVOLUTIONS = {
  "standard": Conv,
  "separable": SeparableConv,
  "conv_norm": ConvNorm,
}

__all__ = [
  "CONVOLUTIONS",
  "Conv",
  "ConvNorm",
  "DepthwiseConv",
  "SeparableConv",
  "conv",
  "depthwise_conv",
  "fold",
  "folded",
  "max_pool",
]
