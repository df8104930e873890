"""The exam of layers whose weight has a structure."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.architectures.low_rank import StructuredConv, StructuredLinear
from effarch.errors import UserError
from effarch.infrastructure.export import litert
from effarch.infrastructure.runtime import LiteRTModel
from effarch.testing.layers import check_layer

Layer = StructuredLinear | StructuredConv


def check_structured(
  make: Callable[..., Layer],
  dense: Callable[[jax.Array, jax.Array], jax.Array],
  x: jax.Array,
  out_shape: tuple[int, ...],
  *,
  params: int,
  macs: int,
  ships: bool = True,
) -> None:
  """Examines a structured layer: all that `check_layer` does, and more.

  Args:
    make: from `dtype` and `rngs` to the layer.
    dense: from `x` and a dense weight to the dense layer's output.
    x: float32 input, batch first.
    out_shape: of the output for `x`.
    params: the formula's number of trained numbers, bias included.
    macs: the formula's multiply-accumulates for `x`.
    ships: LiteRT has what it takes unfolded.
  """
  check_layer(make, x, out_shape, params=params, macs=macs)
  layer = make(dtype=jnp.float32, rngs=nnx.Rngs(0))
  assert layer.bias is not None
  layer.bias[...] = jnp.linspace(-1, 1, out_shape[-1])
  graphdef, params_, rest = nnx.split(layer, nnx.Param, ...)

  def by_factors(params):
    return nnx.merge(graphdef, params, rest)(x)

  def by_matrix(params):
    model = nnx.merge(graphdef, params, rest)
    assert model.bias is not None
    return dense(x, model.to_dense()) + model.bias[...]

  out = jax.jit(by_factors)(params_)
  scale = float(jnp.abs(out).max())
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
  close(
    out,
    jax.jit(by_matrix)(params_),
    atol=1e-5 * scale,
    err_msg="it is not what its matrix is",
  )
  gradients, expected = (
    jax.jit(jax.grad(lambda p, call=call: jnp.sum(jnp.sin(call(p)))))(params_)
    for call in (by_factors, by_matrix)
  )
  for (path, found), want in zip(
    jax.tree.leaves_with_path(gradients),
    jax.tree.leaves(expected),
    strict=True,
  ):
    name = jax.tree_util.keystr(path)
    atol = 2e-5 * float(jnp.abs(want).max())
    close(found, want, atol=atol, err_msg=f"gradient of {name}")

  folded = fold(layer)
  found = folded(x)
  close(found, out, atol=1e-5 * scale, err_msg="folded, it answers otherwise")
  example = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
  found = LiteRTModel(litert.convert(folded, example))(np.asarray(x))
  close(found, out, atol=1e-5 * scale, err_msg="LiteRT answers otherwise")
  try:
    litert.convert(layer, example)
  except UserError:
    assert not ships, "LiteRT refuses it"
  else:
    assert ships, "LiteRT takes it"
