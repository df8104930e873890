"""Convolutions by name; each maps `B H W C` to `B H' W' F`."""

from flax import nnx

from effarch.architectures.convolution.separable import SeparableConv

CONVOLUTIONS = {
  "standard": nnx.Conv,
  "separable": SeparableConv,
}
