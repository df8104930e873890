"""The exams of token mixers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import nnx

from effarch.architectures.attention import Mixer
from effarch.infrastructure.cost import measure
from effarch.testing.layers import all_learn


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
  all_learn(mixer, x, causal=causal)

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
