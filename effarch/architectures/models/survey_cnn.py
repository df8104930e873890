"""The CNN family of the survey's experiments, and its separable sibling.

*Efficient Deep Learning: A Survey* (arXiv:2106.08962), section 4: three pairs
of 3x3 convolutions, each followed by ReLU and then BatchNorm, a 2x2 max pool
after each pair, one hidden dense layer.

Axes: `B` batch, `H W` height and width, `C` channels, `K` classes.
Parameters for 32x32x3 and 10 classes, BatchNorm's moving statistics counted
as the survey counts them: 14,713 at width 0.05, 1,343,018 at width 1.
MACs there: 39,687,168 at width 1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from effarch.architectures.convolution import CONVOLUTIONS, max_pool

_KERNEL = (3, 3)


class SurveyCNN(nnx.Module):
  """The survey's classifier of small images.

  The first pair has 32 channels at every width, which keeps narrow models
  trainable; what follows has 64, 64, 128, 128 channels and 512 hidden units,
  each times `width_multiplier`, rounded.

  Args:
    input_shape: `(H, W, C)`; `H` and `W` at least 8.
    num_classes: `K`.
    width_multiplier: in (0, 8].
    convolution: `"standard"`, or `"separable"` for all but the first.
    dtype: of the computation, `"float32"` or `"bfloat16"`.
    param_dtype: of the parameters.
    rngs: draws the initial parameters.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width_multiplier: float = 1.0,
    convolution: str = "standard",
    dtype: Any = "float32",
    param_dtype: Any = "float32",
    rngs: nnx.Rngs,
  ):
    if not 0 < width_multiplier <= 8:
      raise ValueError(f"width_multiplier: {width_multiplier} is not in (0, 8]")
    if convolution not in CONVOLUTIONS:
      names = ", ".join(CONVOLUTIONS)
      raise ValueError(f"convolution: {convolution!r} is none of {names}")
    if dtype not in ("float32", "bfloat16"):
      raise ValueError(f"dtype: {dtype!r} is neither float32 nor bfloat16")
    if len(input_shape) != 3 or min(input_shape[:2]) < 8:
      raise ValueError(
        f"input_shape: {input_shape} is not H W C, 8 x 8 or more"
      )
    height, width, channels = input_shape

    def scaled(features: int) -> int:
      return max(1, round(features * width_multiplier))

    convolutions, norms = [], []
    sizes = (32, 32, scaled(64), scaled(64), scaled(128), scaled(128))
    for index, features in enumerate(sizes):
      make = CONVOLUTIONS[convolution if index else "standard"]
      convolutions.append(
        make(
          channels,
          features,
          _KERNEL,
          dtype=dtype,
          param_dtype=param_dtype,
          rngs=rngs,
        )
      )
      norms.append(
        nnx.BatchNorm(features, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
      )
      channels = features
    self.convolutions = nnx.List(convolutions)
    self.norms: nnx.List[Any] = nnx.List(norms)
    # Three pools, each rounding down.
    flat = (height // 8) * (width // 8) * channels
    dense = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    self.hidden = nnx.Linear(flat, scaled(512), **dense)
    self.classifier = nnx.Linear(scaled(512), num_classes, **dense)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B K"]:
    layers = zip(self.convolutions, self.norms, strict=True)
    for index, (convolution, norm) in enumerate(layers):
      x = norm(nnx.relu(convolution(x)))
      if index % 2:
        x = max_pool(x)
    x = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
    return self.classifier(x).astype(jnp.float32)

  def fold(self) -> None:
    """Turns each normalization's scale into the convolution before.

    What is left after the activation is an offset for each channel, and a sign
    where a scale is negative. Blocks whose outputs can't be scaled stay.
    """
    for place, norm in enumerate(self.norms):
      scales = hasattr(self.convolutions[place], "scale_outputs")
      if isinstance(norm, nnx.BatchNorm) and scales:
        assert norm.scale is not None and norm.bias is not None
        scale = norm.scale[...] * jax.lax.rsqrt(norm.var[...] + norm.epsilon)
        self.convolutions[place].scale_outputs(jnp.abs(scale))
        offset = norm.bias[...] - norm.mean[...] * scale
        self.norms[place] = _Offset(offset, scale < 0, norm.dtype)


class _Offset(nnx.Module):
  """Adds an offset to each channel, after a change of sign of some.

  Args:
    offset: of each.
    negative: true for those whose sign is changed.
    dtype: of the computation.
  """

  def __init__(
    self, offset: Float[Array, " C"], negative: Bool[Array, " C"], dtype: Any
  ):
    self.offset = nnx.Param(offset)
    self.sign = nnx.data(
      nnx.BatchStat(jnp.where(negative, -1.0, 1.0).astype(offset.dtype))
      if negative.any()
      else None
    )
    self.dtype = dtype

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    if self.sign is not None:
      x = x * self.sign[...].astype(self.dtype)
    return x + self.offset[...].astype(self.dtype)
