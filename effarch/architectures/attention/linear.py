"""Attention with the kernel `phi(x) = elu(x) + 1`.

Linear attention, Transformers are RNNs (arXiv:2006.16236).

Axes and MACs as in `kernel`, with `F = H` features.
Parameters: `2 C N H + 2 C K H`.
"""

from __future__ import annotations

from flax import nnx

from effarch.architectures.attention.kernel import KernelMixer


class LinearAttention(KernelMixer):
  """Attention in time and memory that grow with the length.

  Rotary positions would make weights negative, so there are none.
  """

  position_kinds = ("none",)

  def features(self, x, positions, is_query):
    return nnx.elu(x) + 1
