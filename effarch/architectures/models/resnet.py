"""Residual networks of pairs of 3x3 convolutions (arXiv:1512.03385).

`ResNet` itself is ResNet-18, for images of 224 x 224, with torchvision's sizes.
`CifarResNet` is the paper's for CIFAR; its shortcuts have no parameters (option
A).

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
classes.
Parameters for 1,000 classes: ResNet-18 11,689,512; for ten, ResNet-20 269,722.
MACs: 1,814,073,344 at 224 x 224; 40,551,040 at 32 x 32.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from effarch.architectures.convolution import ConvNorm
from effarch.architectures.models.classifier import (
  Classifier,
  channels,
  scaled,
)


class BasicBlock(nnx.Module):
  """Two 3x3 convolutions beside a shortcut.

  Parameters: `9 C F + 9 F^2 + 4 F`, and `C F + 2 F` if a shortcut projects.

  Args:
    in_features: `C`.
    out_features: `F`.
    strides: of the first convolution.
    projects: a shortcut that changes the shape is a 1x1 convolution (option
      B); otherwise it takes every so many places, and channels that are
      missing are zeros (option A).
    dtype: of the computation; the parameters' own if `None`.
    param_dtype: of the parameters.
    rngs: draws the initial kernels.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    strides: int = 1,
    projects: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    make = functools.partial(
      ConvNorm, dtype=dtype, param_dtype=param_dtype, rngs=rngs
    )
    self.first = make(in_features, out_features, strides=strides)
    self.second = make(out_features, out_features, activation="identity")
    changes = strides > 1 or in_features != out_features
    self.shortcut = nnx.data(
      make(
        *(in_features, out_features, (1, 1)),
        strides=strides,
        activation="identity",
      )
      if changes and projects
      else None
    )
    self.strides = strides

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 F"]:
    y = self.second(self.first(x))
    if self.shortcut is not None:
      x = self.shortcut(x)
    else:
      x = x[:, :: self.strides, :: self.strides]
      missing = y.shape[-1] - x.shape[-1]
      if missing:
        margins = missing // 2, missing - missing // 2
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), margins))
    return nnx.relu(x + y)


class ResNet(Classifier):
  """A stem and stages of blocks, each with half the places of the one before.

  Args:
    input_shape: `(H, W, C)`.
    num_classes: `K`.
    in_features: `C`, if it is not that of `input_shape`.
    depths: blocks of each stage.
    features: channels of each stage.
    stem: `"large"` has a 7x7 convolution and a maximum, with a quarter of the
      places each way; `"small"` a 3x3 convolution, for images of 32 x 32.
    projects: see `BasicBlock`.
    width_multiplier: of all channels, in (0, 8].
    dtype: of the computation.
    param_dtype: of the parameters.
    rngs: draws the initial parameters.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...] = (224, 224, 3),
    num_classes: int = 1000,
    *,
    in_features: int | None = None,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    features: tuple[int, ...] = (64, 128, 256, 512),
    stem: str = "large",
    projects: bool = True,
    width_multiplier: float = 1.0,
    dtype: Any = "float32",
    param_dtype: Any = "float32",
    rngs: nnx.Rngs,
  ):
    if stem not in ("large", "small"):
      raise ValueError(f"stem: {stem!r} is neither large nor small")
    if len(depths) != len(features) or min((0, *depths)) < 0:
      raise ValueError(f"depths: {depths} is not one for each of {features}")
    common = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    sizes = [scaled(size, width_multiplier) for size in features]
    size, large = channels(input_shape, in_features), stem == "large"
    layers: list[Any] = [
      ConvNorm(
        *(size, sizes[0], (7, 7) if large else (3, 3)),
        strides=2 if large else 1,
        **common,
      )
    ]
    if large:
      layers.append(_pool)
    size = sizes[0]
    for stage, (depth, wanted) in enumerate(zip(depths, sizes, strict=True)):
      for index in range(depth):
        strides = 2 if stage and not index else 1
        layers.append(
          BasicBlock(size, wanted, strides=strides, projects=projects, **common)
        )
        size = wanted
    super().__init__(layers, size, num_classes, **common)


_pool = functools.partial(
  nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME"
)


class CifarResNet(ResNet):
  """The paper's networks for CIFAR, with shortcuts of option A.

  Args:
    input_shape: `(H, W, C)`.
    num_classes: `K`.
    blocks: of each of the three stages; 3 make ResNet-20, 18 ResNet-110.
    in_features: `C`, if it is not that of `input_shape`.
    width_multiplier: of all channels, in (0, 8].
    dtype: of the computation.
    param_dtype: of the parameters.
    rngs: draws the initial parameters.

  Raises:
    ValueError: an argument is out of its range.
  """

  def __init__(
    self,
    input_shape: tuple[int, ...] = (32, 32, 3),
    num_classes: int = 10,
    *,
    blocks: int = 3,
    in_features: int | None = None,
    width_multiplier: float = 1.0,
    dtype: Any = "float32",
    param_dtype: Any = "float32",
    rngs: nnx.Rngs,
  ):
    if blocks < 1:
      raise ValueError(f"blocks: {blocks} is not positive")
    super().__init__(
      *(input_shape, num_classes),
      depths=(blocks,) * 3,
      features=(16, 32, 64),
      stem="small",
      projects=False,
      in_features=in_features,
      width_multiplier=width_multiplier,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
