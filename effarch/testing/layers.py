"""The exams of layers, and of blocks of convolutions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.infrastructure.cost import measure
from effarch.infrastructure.export import litert
from effarch.infrastructure.runtime import LiteRTModel


def check_layer(
  make: Callable[..., nnx.Module],
  x: jax.Array,
  out_shape: tuple[int, ...],
  *,
  params: int,
  macs: int,
  half_error: float = 0.05,
) -> None:
  """Examines a layer that maps one array to one array.

  Args:
    make: from `dtype` and `rngs` to the layer.
    x: float32 input, batch first.
    out_shape: of the output for `x`.
    params: the formula's number of trained numbers.
    macs: the formula's multiply-accumulates for `x`.
    half_error: the bfloat16 layer may have, of the largest output.
  """
  layer = make(dtype=jnp.float32, rngs=nnx.Rngs(0))
  layer.eval()
  out = layer(x)
  chex.assert_shape(out, out_shape)
  assert out.dtype == jnp.float32, f"float32 gives {out.dtype}"
  chex.assert_tree_all_finite(out)

  close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-5)
  close(_compiled(layer, x)[0], out)
  # One example's output is its own affair.
  others = jnp.concatenate([x[:1], 1 - 3 * x[1:]])
  close(_compiled(layer, others)[0][:1], out[:1])

  same = nnx.state(make(dtype=jnp.float32, rngs=nnx.Rngs(0)))
  chex.assert_trees_all_equal(same, nnx.state(layer))

  half = make(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  half.eval()
  for leaf in jax.tree.leaves(nnx.state(half, nnx.Param)):
    assert leaf.dtype == jnp.float32, f"parameters turned {leaf.dtype}"
  scale = float(jnp.max(jnp.abs(out))) + 1e-6
  error = jnp.max(jnp.abs(_compiled(half, x)[0] - out)) / scale
  assert error < half_error, (
    f"bfloat16 is off by {error:.3f} of the largest output"
  )

  all_learn(layer, x)

  cost = measure(layer, x)
  assert not cost.unknown, f"primitives without a cost: {cost.unknown}"
  assert cost.params == params, f"{cost.params} parameters, formula {params}"
  assert cost.macs == macs, f"{cost.macs} MACs, formula {macs}"


def check_block(
  make: Callable[..., nnx.Module],
  x: jax.Array,
  out_shape: tuple[int, ...],
  *,
  params: int,
  macs: int,
) -> None:
  """Examines a block of convolutions: all that `check_layer` does, and more.

  Args:
    make: from `dtype` and `rngs` to the block.
    x: float32 images, `B H W C`, of odd sizes.
    out_shape: of the output for `x`.
    params: the formula's number of trained numbers.
    macs: the formula's multiply-accumulates for `x`, in evaluation mode.
  """
  check_layer(make, x, out_shape, params=params, macs=macs)
  block = make(dtype=jnp.float32, rngs=nnx.Rngs(0))
  block.train()
  trained, statistics = _compiled(block, x)
  chex.assert_shape(trained, out_shape)
  chex.assert_tree_all_finite(trained)
  for old, new in zip(
    jax.tree.leaves(nnx.state(block, nnx.BatchStat)),
    jax.tree.leaves(statistics),
    strict=True,
  ):
    assert np.any(np.asarray(old) != new), "a normalization does not learn"

  # Statistics and offsets as of a block that was trained.
  noise = np.random.default_rng(1)
  for _, leaf in nnx.iter_graph(block):
    if isinstance(leaf, nnx.BatchStat | nnx.Param) and leaf.ndim == 1:
      moved = np.asarray(leaf[...]) + 0.3 * noise.random(leaf.shape)
      leaf[...] = jnp.asarray(moved, leaf.dtype)
  block.eval()
  out, _ = _compiled(block, x)
  scale = float(jnp.abs(out).max())
  close = functools.partial(np.testing.assert_allclose, atol=1e-5 * scale)
  folded = fold(block)
  close(
    _compiled(folded, x)[0],
    out,
    err_msg="folded, it answers otherwise",
    rtol=1e-5,
  )
  left = jax.tree.leaves(nnx.state(folded, nnx.BatchStat))
  assert not left, f"{len(left)} statistics are left after folding"
  for name, module in (("", block), ("folded, ", folded)):
    example = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
    file = litert.convert(module, example)
    found = LiteRTModel(file)(np.asarray(x))
    close(found, out, err_msg=f"{name}LiteRT answers otherwise", rtol=1e-4)


def all_learn(layer: nnx.Module, x: jax.Array, **arguments) -> None:
  """Examines that every parameter has a gradient, and that it is finite.

  Args:
    layer: what is examined.
    x: its input.
    **arguments: what else it is called with.
  """
  graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

  def squares(params):
    model = nnx.merge(graphdef, params, rest, copy=True)
    return jnp.sum(jnp.square(model(x, **arguments)))

  gradients = jax.jit(jax.grad(squares))(params)
  for path, leaf in jax.tree.leaves_with_path(gradients):
    name, numbers = jax.tree_util.keystr(path), np.asarray(leaf)
    assert np.isfinite(numbers).all(), f"gradient of {name} not finite"
    assert np.any(numbers), f"{name} gets no gradient"


def _compiled(layer: nnx.Module, x: jax.Array) -> tuple[jax.Array, nnx.State]:
  """Returns the output, and the moving statistics after it."""
  return _run(*nnx.split(layer), x)


@functools.partial(jax.jit, static_argnums=0)
def _run(graphdef, state, x):
  layer = nnx.merge(graphdef, state)
  out = layer(x)
  return out, nnx.state(layer, nnx.BatchStat)
