"""Shared exams: what every member of a name table must pass.

Only tests import this. Each exam raises `AssertionError` at the first rule
that is broken; the tests hold a mutant against each.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from effarch.architectures.attention import Mixer
from effarch.architectures.convolution import fold
from effarch.infrastructure.cost import Report, measure
from effarch.infrastructure.export import litert
from effarch.infrastructure.runtime import LiteRTModel
from effarch.infrastructure.training import (
  Technique,
  classification_loss,
)
from effarch.infrastructure.training.technique import apply_batch_hooks


def check_layer(
  make: Callable[..., nnx.Module],
  x: jax.Array,
  out_shape: tuple[int, ...],
  *,
  params: int,
  macs: int,
) -> None:
  """Examines a layer that maps one array to one array.

  Args:
    make: from `dtype` and `rngs` to the layer.
    x: float32 input, batch first.
    out_shape: of the output for `x`.
    params: the formula's number of trained numbers.
    macs: the formula's multiply-accumulates for `x`.
  """
  layer = make(dtype=jnp.float32, rngs=nnx.Rngs(0))
  layer.eval()
  out = layer(x)
  chex.assert_shape(out, out_shape)
  assert out.dtype == jnp.float32, f"float32 gives {out.dtype}"
  chex.assert_tree_all_finite(out)

  graphdef, state = nnx.split(layer)
  call = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
  chex.assert_trees_all_close(call(state, x), out, rtol=1e-5, atol=1e-5)
  # One example's output is its own affair.
  chex.assert_trees_all_close(call(state, x[:1]), out[:1], rtol=1e-5, atol=1e-5)

  same = nnx.state(make(dtype=jnp.float32, rngs=nnx.Rngs(0)))
  chex.assert_trees_all_equal(same, nnx.state(layer))

  half = make(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  half.eval()
  for leaf in jax.tree.leaves(nnx.state(half, nnx.Param)):
    assert leaf.dtype == jnp.float32, f"parameters turned {leaf.dtype}"
  scale = float(jnp.max(jnp.abs(out))) + 1e-6
  error = jnp.max(jnp.abs(half(x).astype(jnp.float32) - out)) / scale
  assert error < 0.05, f"bfloat16 is off by {error:.3f} of the largest output"

  params_state, rest = nnx.state(layer, nnx.Param, ...)

  def squares(params_state):
    model = nnx.merge(graphdef, params_state, rest, copy=True)
    return jnp.sum(jnp.square(model(x)))

  gradients = jax.jit(jax.grad(squares))(params_state)
  for path, leaf in jax.tree.leaves_with_path(gradients):
    name = jax.tree_util.keystr(path)
    assert bool(jnp.isfinite(leaf).all()), f"gradient of {name} not finite"
    assert bool(jnp.any(leaf != 0)), f"{name} gets no gradient"

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
  before = jax.tree.map(jnp.copy, nnx.state(block, nnx.BatchStat))
  trained = block(x)
  chex.assert_shape(trained, out_shape)
  chex.assert_tree_all_finite(trained)
  for old, new in zip(
    jax.tree.leaves(before),
    jax.tree.leaves(nnx.state(block, nnx.BatchStat)),
    strict=True,
  ):
    assert bool(jnp.any(old != new)), "a normalization does not learn"

  # Statistics and offsets as of a block that was trained.
  noise = jax.random.key(1)
  for _, leaf in nnx.iter_graph(block):
    if isinstance(leaf, nnx.BatchStat | nnx.Param) and leaf.ndim == 1:
      noise, key = jax.random.split(noise)
      leaf[...] += 0.3 * jax.random.uniform(key, leaf.shape)
  block.eval()
  out = block(x)
  scale = float(jnp.abs(out).max())
  close = functools.partial(np.testing.assert_allclose, atol=1e-5 * scale)
  folded = fold(block)
  close(folded(x), out, err_msg="folded, it answers otherwise", rtol=1e-5)
  left = jax.tree.leaves(nnx.state(folded, nnx.BatchStat))
  assert not left, f"{len(left)} statistics are left after folding"
  for name, module in (("", block), ("folded, ", folded)):
    example = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
    file = litert.convert(module, example)
    found = LiteRTModel(file)(np.asarray(x))
    close(found, out, err_msg=f"{name}LiteRT answers otherwise", rtol=1e-4)


def check_attention(
  make: Callable[..., Mixer],
  x: jax.Array,
  *,
  params: int,
  macs: Callable[[bool], int],
) -> None:
  """Examines a token mixer: all that it says it supports, and nothing more.

  Args:
    make: from the greatest length, `dtype` and `rngs` to the mixer.
    x: float32 tokens, `B T C`, with two sequences at least.
    params: the formula's number of trained numbers.
    macs: the formula's multiply-accumulates for `x`, causal or not.
  """
  length = x.shape[1]
  mixer = make(length, dtype=jnp.float32, rngs=nnx.Rngs(0))
  mixer.eval()
  supports = mixer.supports
  causal = not supports.bidirectional
  _refuses_the_rest(mixer, x)

  @functools.partial(jax.jit, static_argnames="causal")
  def call(x, mask=None, context=None, causal=causal):
    return mixer(x, mask=mask, context=context, causal=causal)

  out = call(x)
  chex.assert_equal_shape([out, x])
  assert out.dtype == jnp.float32, f"float32 gives {out.dtype}"
  close = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-4)
  close(mixer(x, causal=causal), out)
  # One sequence's output is its own affair.
  close(call(x[:1]), out[:1])
  same = make(length, dtype=jnp.float32, rngs=nnx.Rngs(0))
  chex.assert_trees_all_equal(nnx.state(same), nnx.state(mixer))

  half = make(length, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  half.eval()
  for leaf in jax.tree.leaves(nnx.state(half, nnx.Param)):
    assert leaf.dtype == jnp.float32, f"parameters turned {leaf.dtype}"
  found = half(x.astype(jnp.bfloat16), causal=causal)
  assert found.dtype == jnp.bfloat16, f"bfloat16 gives {found.dtype}"
  # The median: where choices are discrete, as of buckets, a rounding decides
  # what single tokens see.
  error = jnp.median(abs(found.astype(jnp.float32) - out))
  error = float(error / jnp.sqrt(jnp.square(out).mean()))
  assert error < 0.02, f"bfloat16 is off by {error:.3f} of the output"

  if supports.mask:
    _padding_is_not_seen(call, x)
  if supports.cross:
    _context_is_seen(call, x)
  if supports.causal:
    _nothing_leaks_back(call, x)
  if supports.streaming:
    _a_stream_is_the_same(mixer, x, call(x, causal=True))
  _all_parameters_learn(mixer, x, causal)

  for causal in (False, True):
    if supports.causal if causal else supports.bidirectional:
      cost = measure(functools.partial(mixer, causal=causal), x)
      assert not cost.unknown, f"primitives without a cost: {cost.unknown}"
      wanted = macs(causal)
      assert cost.macs == wanted, f"{cost.macs} MACs, formula {wanted}"
  leaves = jax.tree.leaves(nnx.state(mixer, nnx.Param))
  found = sum(leaf.size for leaf in leaves)
  assert found == params, f"{found} parameters, formula {params}"


def check_growth(make: Callable[[int], Mixer], features: int) -> None:
  """Examines that MACs grow with the length as the mixer says.

  FLOPs stand in for MACs where there are none. Nothing is computed.

  Args:
    make: from a length to the mixer.
    features: channels.
  """
  lengths, costs = (2**12, 2**14), []
  stated = 0.0
  for length in lengths:
    mixer = nnx.eval_shape(lambda length=length: make(length))
    stated = mixer.supports.growth
    causal = not mixer.supports.bidirectional
    x = jax.ShapeDtypeStruct((1, length, features), jnp.float32)
    cost = measure(functools.partial(mixer, causal=causal), x)
    costs.append(cost.macs or cost.flops)
  power = math.log(costs[1] / costs[0], lengths[1] / lengths[0])
  assert abs(power - stated) < 0.1, f"grows as T^{power:.2f}, not T^{stated}"


def _refuses_the_rest(mixer: Mixer, x: jax.Array) -> None:
  supports = mixer.supports
  causal = not supports.bidirectional
  mask = jnp.ones(x.shape[:2], bool)
  asked = {
    "bidirectional": lambda: mixer(x),
    "causal": lambda: mixer(x, causal=True),
    "cross": lambda: mixer(x, context=x, causal=causal),
    "mask": lambda: mixer(x, mask=mask, causal=causal),
    "streaming": lambda: mixer.init_state(len(x), x.shape[1]),
  }
  for name, ask in asked.items():
    if getattr(supports, name):
      continue
    try:
      ask()
    except ValueError as error:
      assert f"does not support {name}" in str(error), str(error)
    else:
      raise AssertionError(f"{name} is not supported, and not refused")


def _padding_is_not_seen(call, x: jax.Array) -> None:
  length = x.shape[1]
  mask = jnp.ones(x.shape[:2], bool)
  # Padding behind, a hole, and one sequence of nothing else.
  mask = mask.at[0, length * 3 // 4 :].set(False).at[0, 2].set(False)
  mask = mask.at[-1].set(False)
  other = jnp.where(mask[:, :, None], x, 5 - 3 * x)
  out, changed = call(x, mask), call(other, mask)
  chex.assert_tree_all_finite((out, changed))
  seen = mask[:, :, None]
  chex.assert_trees_all_close(
    jnp.where(seen, out, 0), jnp.where(seen, changed, 0), atol=1e-5
  )
  assert bool(jnp.any(abs(out - call(x))[0] > 1e-5)), "the mask does nothing"
  gradient = jax.grad(lambda x: jnp.square(call(x, mask)).sum())(x)
  chex.assert_tree_all_finite(gradient)


def _context_is_seen(call, x: jax.Array) -> None:
  context = jnp.flip(x, 2)[:, : x.shape[1] // 2]
  out = call(x, context=context)
  chex.assert_equal_shape([out, x])
  chex.assert_trees_all_close(call(x, context=x), call(x), atol=1e-5)
  moved = call(x, context=context.at[0, 0].add(1))
  assert bool(jnp.any(moved[0] != out[0])), "the context is not seen"
  mask = jnp.ones(context.shape[:2], bool).at[0, 0].set(False)
  out = call(x, mask, context)
  moved = call(x, mask, context.at[0, 0].add(1))
  chex.assert_trees_all_close(out, moved, atol=1e-6)


def _nothing_leaks_back(call, x: jax.Array) -> None:
  out = call(x, causal=True)
  for place in (1, x.shape[1] // 2 + 1, x.shape[1] - 1):
    later = x.at[:, place:].add(jnp.sin(jnp.arange(x.shape[2])) * 3)
    moved = call(later, causal=True)
    chex.assert_trees_all_close(moved[:, :place], out[:, :place], atol=2e-5)
    assert bool(jnp.any(abs(moved - out)[:, place] > 1e-4)), "itself unseen"


def _a_stream_is_the_same(mixer: Mixer, x: jax.Array, out: jax.Array) -> None:
  batch, length, _ = x.shape
  state = mixer.init_state(batch, length)

  def step(state, token):
    out, state = mixer.step(token, state)
    return state, out

  last, found = jax.jit(lambda s: jax.lax.scan(step, s, x.swapaxes(0, 1)))(
    state
  )
  chex.assert_trees_all_close(found.swapaxes(0, 1), out, rtol=1e-4, atol=1e-4)
  chex.assert_trees_all_equal_shapes_and_dtypes(last, state)
  shapes = [
    jax.eval_shape(lambda n=n: mixer.init_state(batch, n))
    for n in (length // 2, length)
  ]
  sizes = [sum(leaf.size for leaf in jax.tree.leaves(s)) for s in shapes]
  grows = sizes[0] != sizes[1]
  assert grows != mixer.supports.constant_state, f"states of {sizes} numbers"


def _all_parameters_learn(mixer: Mixer, x: jax.Array, causal: bool) -> None:
  graphdef, params, rest = nnx.split(mixer, nnx.Param, ...)

  def squares(params):
    model = nnx.merge(graphdef, params, rest, copy=True)
    return jnp.sum(jnp.square(model(x, causal=causal)))

  for path, leaf in jax.tree.leaves_with_path(
    jax.jit(jax.grad(squares))(params)
  ):
    name = jax.tree_util.keystr(path)
    assert bool(jnp.isfinite(leaf).all()), f"gradient of {name} not finite"
    assert bool(jnp.any(leaf != 0)), f"{name} gets no gradient"


def check_report(report: Report) -> None:
  """Examines that a cost report is complete, and its rows add up exactly.

  Args:
    report: what `measure` returned.
  """
  assert not report.unknown, f"primitives without a cost: {report.unknown}"
  rows = report.by_module
  for path, row in rows.items():
    within = f"{path}." if path else ""
    inner = [p for p in rows if p == path or p.startswith(within)]
    for name, number in row.numbers().items():
      total = sum(getattr(rows[p].own, name) for p in inner)
      assert number == total, f"{path}: {name} {number}, sum {total}"
  assert rows[""].numbers() == report.numbers(), "the whole is no sum"


def check_technique(technique: Technique) -> None:
  """Examines a technique's hooks on a small classifier.

  Args:
    technique: as a config would make it.
  """
  assert dataclasses.is_dataclass(technique), "no dataclass"
  assert hash(technique) == hash(dataclasses.replace(technique)), "not frozen"
  key = jax.random.key(0)
  images = jax.random.uniform(key, (8, 8, 8, 1), minval=-1, maxval=1)
  labels = jax.nn.one_hot(jnp.arange(8) % 4, 4)
  batch = {"inputs": images, "labels": labels}

  run = jax.jit(lambda batch, rng: apply_batch_hooks([technique], batch, rng))
  changed = run(batch, key)
  chex.assert_trees_all_equal_shapes_and_dtypes(changed, batch)
  chex.assert_tree_all_finite(changed)
  chex.assert_trees_all_equal(run(batch, key), changed)
  chex.assert_trees_all_close(
    apply_batch_hooks([technique], batch, key), changed, atol=1e-6
  )
  np.testing.assert_allclose(
    changed["labels"].sum(-1), 1, atol=1e-6, err_msg="labels don't sum to 1"
  )

  model = technique.model(_Classifier(rngs=nnx.Rngs(0)))
  losses, metrics = technique.loss(classification_loss)(model, batch)
  chex.assert_shape(losses, (8,))
  chex.assert_tree_all_finite((losses, metrics))
  assert "accuracy" in metrics, "the loss hook lost the metrics"

  params = nnx.state(model, nnx.Param)
  tx = technique.optimizer(optax.sgd(0.1))
  updates, _ = tx.update(
    jax.tree.map(jnp.ones_like, params), tx.init(params), params
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
  logits = technique.finish(model)(images)
  chex.assert_shape(logits, (8, 4))


class _Classifier(nnx.Module):
  """The smallest model with a hidden layer: `B 8 8 1` to `B 4`."""

  def __init__(self, rngs: nnx.Rngs):
    self.hidden = nnx.Linear(64, 8, rngs=rngs)
    self.classifier = nnx.Linear(8, 4, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = nnx.relu(self.hidden(x.reshape(len(x), -1)))
    return self.classifier(x)
