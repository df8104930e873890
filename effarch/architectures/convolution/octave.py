"""Octave convolution: slow channels have half the places each way.

Octave convolution (arXiv:1904.05049): channels of high and of low frequency,
and four paths from each to each; on the way down inputs are averaged, on the
way up outputs are repeated. Strides of 2 are averages before the convolutions,
as in the authors' code.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `A` and `Z` the ratios of low channels before and after.
Parameters of `OctaveConv`: `K C F + 2 F`. MACs an output place of high
frequency: `K C F (1 - A) (1 - Z)`, a quarter of `K C F (1 - A) Z` and `K C F A
Z`, and of `K C F A (1 - Z)` too, or with strides of 2 the whole.
Of `OctaveBlock`, whose two have `A = 0` and `Z = 0`: `K C F + K F^2 + 4 F`, and
MACs by the same formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution.activations import activation
from effarch.architectures.convolution.conv import Conv
from effarch.architectures.convolution.conv_norm import batch_norm, fold_norm
from effarch.architectures.convolution.window import Sizes, sizes

# High frequencies, and low ones with half the places each way, if any.
Octaves = tuple[Float[Array, "B _ _ _"], Float[Array, "B _ _ _"] | None]


def halved(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
  """Returns the average of each 2 x 2 places.

  Raises:
    ValueError: heights and widths are not even.
  """
  batch, height, width, channels = x.shape
  if height % 2 or width % 2:
    raise ValueError(
      f"images of {height} x {width} have no halves; take OctaveBlock, which "
      "fills them up"
    )
  x = x.reshape(batch, height // 2, 2, width // 2, 2 * channels).sum(2)
  return (x[..., :channels] + x[..., channels:]) / 4


def doubled(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
  """Returns each place four times, as 2 x 2."""
  batch, height, width, channels = x.shape
  x = jnp.concatenate([x, x], axis=-1)  # `2 W` places of `C`.
  x = x.reshape(batch, height, 1, 2 * width * channels)
  x = jnp.concatenate([x, x], axis=2)
  return x.reshape(batch, 2 * height, 2 * width, channels)


def even(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B H2 W2 C"]:
  """Returns images of multiples of `size`, by repeating what is last.

  Repeated and not zeros, so that averages at the border are those of places
  that exist.
  """
  rows, columns = (-length % size for length in x.shape[1:3])
  x = jnp.concatenate([x] + [x[:, -1:]] * rows, axis=1)
  return jnp.concatenate([x] + [x[:, :, -1:]] * columns, axis=2)


def split(features: int, ratio: float) -> tuple[int, int]:
  """Returns the numbers of high and low channels.

  Raises:
    ValueError: no channel would be high.
  """
  if not 0 <= ratio < 1:
    raise ValueError(f"ratio: {ratio} is not in [0, 1)")
  low = int(ratio * features)
  return features - low, low


class OctaveConv(nnx.Module):
  """Convolves, normalizes and activates two octaves of channels.

  Heights and widths are even, and with strides of 2 multiples of 4.

  Args:
    in_features: `C`, of both octaves.
    out_features: `F`, of both octaves.
    kernel_size: two sizes.
    strides: 1 or 2.
    ratio_in: `A`, in [0, 1); 0 for inputs of high frequency alone.
    ratio_out: `Z`, likewise.
    activation: a key of `ACTIVATIONS`.
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int] = (3, 3),
    *,
    strides: Sizes = 1,
    ratio_in: float = 0.5,
    ratio_out: float = 0.5,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    steps = set(sizes("strides", strides, 2))
    if steps not in ({1}, {2}):
      raise ValueError(f"strides: {strides!r} is neither 1 nor 2")
    self.stride = steps.pop()
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    ins, outs = split(in_features, ratio_in), split(out_features, ratio_out)

    def path(start: int, end: int) -> Conv | None:
      if not start or not end:
        return None
      return Conv(start, end, kernel_size, use_bias=False, **common)

    def norm(features: int) -> nnx.BatchNorm | None:
      return batch_norm(features, **common) if features else None

    self.high_to_high = Conv(
      ins[0], outs[0], kernel_size, use_bias=False, **common
    )
    self.high_to_low = nnx.data(path(ins[0], outs[1]))
    self.low_to_high = nnx.data(path(ins[1], outs[0]))
    self.low_to_low = nnx.data(path(ins[1], outs[1]))
    self.high_norm = nnx.data(norm(outs[0]))
    self.low_norm = nnx.data(norm(outs[1]))
    self.activation = activation
    self._activate()  # A wrong name is told now.

  def _activate(self):
    return activation(self.activation)

  def __call__(self, octaves: Octaves) -> Octaves:
    high, low = octaves
    if (low is None) != (self.low_to_high is None):
      given = "no" if low is None else "a"
      raise ValueError(f"octaves: {given} low one does not fit ratio_in")
    if self.stride == 2:
      high = halved(high)
    above = self.high_to_high(high)
    if self.low_to_high is not None and low is not None:
      part = self.low_to_high(low)
      above += part if self.stride == 2 else doubled(part)
    above = self._finish(above, self.high_norm)
    if self.high_to_low is None:
      return above, None
    below = self.high_to_low(halved(high))
    if self.low_to_low is not None and low is not None:
      below += self.low_to_low(halved(low) if self.stride == 2 else low)
    return above, self._finish(below, self.low_norm)

  def _finish(self, x: Array, norm: nnx.BatchNorm | None) -> Array:
    return self._activate()(x if norm is None else norm(x))

  def fold(self) -> None:
    """Turns the normalizations into kernels and a bias of each octave."""
    for end, norm in (("high", self.high_norm), ("low", self.low_norm)):
      if norm is None:
        continue
      for start in ("high", "low"):
        conv = getattr(self, f"{start}_to_{end}")
        if conv is None:
          continue
        fold_norm(conv, norm)
        if start == "low":  # Of a sum, one has the bias.
          conv.bias = None
    self.high_norm = self.low_norm = None
