"""Convolutions by name; each maps `B H W C` to `B H' W' F`."""

from effarch.architectures.convolution.conv import Conv, conv
from effarch.architectures.convolution.depthwise import (
  DepthwiseConv,
  depthwise_conv,
)
from effarch.architectures.convolution.pool import max_pool
from effarch.architectures.convolution.separable import SeparableConv

CONVOLUTIONS = {
  "standard": Conv,
  "separable": SeparableConv,
}

__all__ = [
  "CONVOLUTIONS",
  "Conv",
  "DepthwiseConv",
  "SeparableConv",
  "conv",
  "depthwise_conv",
  "max_pool",
]
