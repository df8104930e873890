"""Grouped convolution: each group of channels is convolved by itself.

AlexNet's, and ResNeXt's (arXiv:1611.05431) as a way to more channels at the
same cost; with normalization and an activation.

Axes: `B` batch, `*S` one or two spatial axes, `C` input and `F` output
channels, `K` the kernel's places, `G` groups.
Parameters: `K C F / G + 2 F`. MACs an output place: `K C F / G`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effarch.architectures.convolution.conv_norm import ConvNorm


class GroupedConv(ConvNorm):
  """A `ConvNorm` of several groups, 4 if not told otherwise.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: one or two sizes.
    groups: `G`.
    **arguments: see `ConvNorm`.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int] = (3, 3),
    *,
    groups: int = 4,
    **arguments: Any,
  ):
    super().__init__(
      in_features, out_features, kernel_size, groups=groups, **arguments
    )
