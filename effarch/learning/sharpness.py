"""Sharpness-aware minimization: the gradient of a worse place near by."""

from __future__ import annotations

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from effarch.infrastructure.training import GradientFn, Technique
from effarch.learning.checks import check_within


@dataclasses.dataclass(frozen=True)
class SAM(Technique):
  """Takes the gradient where a step uphill leads (arXiv:2010.01412).

  That step is `rho g / |g|`. A training step costs two. Metrics and statistics
  are those of the first pass; both draw the same random numbers.

  Args:
    rho: the length of the step uphill; 0 takes none.
  """

  rho: float = 0.05

  def __post_init__(self):
    check_within("[0, inf)", rho=self.rho)

  def gradient(self, gradient_fn: GradientFn) -> GradientFn:
    if not self.rho:
      return gradient_fn

    def sharp(params, batch):
      gradients, first = gradient_fn(params, batch)
      uphill = self._uphill(params, gradients)
      gradients, _ = gradient_fn(
        cast(nnx.State, optax.apply_updates(params, uphill)), batch
      )
      return gradients, first

    return sharp

  def _uphill(self, params: nnx.State, gradients: nnx.State) -> nnx.State:
    scale = self.rho / _length(gradients)
    return jax.tree.map(lambda g: scale * g, gradients)


@dataclasses.dataclass(frozen=True)
class ASAM(SAM):
  """Adaptive: the step uphill is relative to the weights (arXiv:2102.11600).

  It is `rho T^2 g / |T g|`, where `T` is `|w| + eta` for weights `w`, and 1 for
  biases and scales, that is, for what has one axis.

  Args:
    rho: the length of the step, relative; 0 takes none.
    eta: what is added to each weight's size.
  """

  rho: float = 0.5
  eta: float = 0.01

  def __post_init__(self):
    super().__post_init__()
    check_within("[0, inf)", eta=self.eta)

  def _uphill(self, params: nnx.State, gradients: nnx.State) -> nnx.State:
    def size(w):
      return jnp.abs(w) + self.eta if w.ndim > 1 else jnp.ones_like(w)

    sizes = jax.tree.map(size, params)
    scale = self.rho / _length(jax.tree.map(jnp.multiply, sizes, gradients))
    return jax.tree.map(lambda t, g: scale * t**2 * g, sizes, gradients)


def _length(tree: nnx.State) -> jax.Array:
  # Where all is zero there is no uphill.
  return jnp.maximum(optax.tree.norm(tree), jnp.finfo(jnp.float32).tiny)
