"""RepVGG's block: three branches in training, one convolution at inference.

RepVGG (arXiv:2101.03697): a convolution, a 1x1 convolution and, where shapes
allow, the input, each with its own normalization, are added and then
activated. `fold` merges them exactly.

Axes: `B` batch, `H W` height and width, `C` input and `F` output channels, `K`
the kernel's places, `G` groups.
Parameters: `(K + 1) C F / G + 4 F`, and `2 F` more where the input passes
(`F = C`, strides of 1). MACs an output place: `(K + 1) C F / G`. Folded:
`K C F / G + F` and `K C F / G`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from effarch.architectures.convolution.reparameterize import Branches
from effarch.architectures.convolution.window import Sizes


class RepVGG(Branches):
  """A convolution that learns as three and folds into one.

  Args:
    in_features: `C`.
    out_features: `F`.
    kernel_size: two odd sizes.
    strides: steps from one output to the next.
    groups: `G`.
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
    groups: int = 1,
    activation: str = "relu",
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    super().__init__(
      *(in_features, out_features, [kernel_size, (1, 1)]),
      strides=strides,
      groups=groups,
      activation=activation,
      dtype=dtype,
      param_dtype=param_dtype,
      rngs=rngs,
    )
