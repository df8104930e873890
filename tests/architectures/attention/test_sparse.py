"""Sparse attention against dense attention to the tokens that are seen.

Which tokens those are is told by loops over all pairs, from the definitions.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from tests.architectures.attention.dense import (
  draw,
  heads_for_all,
  jit,
  made,
  with_gradient,
)

pytestmark = pytest.mark.usefixtures("float64", "small_chunks")

# 37 is no multiple of any block.
B, T, N, H, C = 2, 37, 2, 4, 8


def holes(length=T):
  """A mask that hides single tokens, whole blocks, and the end."""
  mask = np.ones((B, length), bool)
  mask[0, [1, 7]] = False
  mask[1, [0, *range(10, min(22, length)), length - 2, length - 1]] = False
  return mask


def dense(query, key, value, times, bias):
  """Attention to each key as many `times` as `B N T S` says; `B T N H`."""
  scores = jnp.einsum("btnh,bsnh->bnts", query, key) / H**0.5
  weights = times * jnp.exp(scores + bias)
  total = weights.sum(-1, keepdims=True)
  weights = weights / jnp.where(total > 0, total, 1)
  return jnp.einsum("bnts,bsnh->btnh", weights, value)


# One program for all patterns, which are numbers to it.
dense_with_gradient = with_gradient(dense)


def heads_together(x, shared):
  """The gradients of heads, summed for those that share a key-value head."""
  total = np.zeros((*x.shape[:2], shared, H))
  for head in range(N):
    total[:, :, head * shared // N] += x[:, :, head]
  return total


def assert_same(function, shared, times, bias=0.0):
  """Compares a function of queries, keys and values with dense attention."""
  query = draw(B, T, N, H)
  key, value = (draw(B, T, shared, H, seed=seed) for seed in (1, 2))
  cotangent = draw(B, T, N, H, seed=3)
  found = with_gradient(function)(cotangent, query, key, value)
  out, pulled = dense_with_gradient(
    *(cotangent, query, heads_for_all(key), heads_for_all(value)),
    *(np.broadcast_to(times, (B, N, T, T)), np.broadcast_to(bias, (N, T, T))),
  )
  queries, keys, values = (np.asarray(x) for x in pulled[:3])
  keys, values = (heads_together(x, shared) for x in (keys, values))
  chex.assert_tree_all_finite(found)
  chex.assert_trees_all_close(
    found, (out, (queries, keys, values)), rtol=1e-9, atol=1e-10
  )


def same_block(t, s, size):
  return t // size == s // size


# name: sizes, and whether token `t` sees token `s`.
PATTERNS = {
  "local": ((5,), lambda t, s: same_block(t, s, 5)),
  "sliding_window": ((3,), lambda t, s: abs(t - s) <= 3),
  "dilated": ((3, 2), lambda t, s: abs(t - s) in (0, 2, 4, 6)),
  "block_sparse": (
    (5, 2),
    lambda t, s: same_block(t, s, 5) or s % 5 in (3, 4),
  ),
  "longformer": (
    (3, 2),
    lambda t, s: abs(t - s) <= 3 or t in (0, 1) or s in (0, 1),
  ),
}
# Windows wider than the least block, and steps that do not fill one.
MORE_PATTERNS = [
  ("sliding_window", (17,), lambda t, s: abs(t - s) <= 17),
  ("dilated", (1, 5), lambda t, s: abs(t - s) in (0, 5)),
]


def seen_pairs(sees, mask, causal):
  times = np.zeros((B, 1, T, T))
  for b in range(B):
    for t in range(T):
      for s in range(T):
        visible = mask[b, s] and (s <= t or not causal)
        times[b, 0, t, s] = visible and sees(t, s)
  return times


def alibi():
  """ALiBi's bias for two heads: its slopes are 2^-4 and 2^-8."""
  distance = np.array([[abs(t - s) for s in range(T)] for t in range(T)])
  return -np.stack([2.0**-4 * distance, 2.0**-8 * distance])


@pytest.mark.parametrize(
  ("name", "sizes", "sees", "rich"),
  [
    (name, *case, rich)
    for name, case in PATTERNS.items()
    for rich in (False, True)
  ]
  + [(*case, True) for case in MORE_PATTERNS],
)
def test_pattern(name, sizes, sees, rich):
  """Bidirectional and plain; or causal, ALiBi, and one key-value head."""
  shared = 1 if rich else 2
  positions = "alibi" if rich else "none"
  graph, state = made(name, *sizes, num_kv_heads=shared, positions=positions)
  mixer = nnx.merge(graph, state)
  mask = holes()
  assert_same(
    lambda *inputs: mixer.attend(*inputs, jnp.asarray(mask), rich),
    shared,
    seen_pairs(sees, mask, rich),
    alibi() if rich else 0.0,
  )


@pytest.mark.parametrize("rich", [False, True])
def test_big_bird(rich):
  """Global blocks see and are seen by all; random ones as the table has it."""
  shared = 1 if rich else 2
  options = {"num_kv_heads": shared, "seed": 3}
  options["positions"] = "alibi" if rich else "none"
  graph, state = made("big_bird", 4, 1, 2, **options)
  mixer = nnx.merge(graph, state)
  table = mixer.seen_blocks(10)

  def sees(t, s):
    row, column = t // 4, s // 4
    return 0 in (row, column) or abs(row - column) <= 1 or column in table[row]

  mask = holes()
  assert_same(
    lambda *inputs: mixer.attend(*inputs, jnp.asarray(mask), False),
    shared,
    seen_pairs(sees, mask, False),
    alibi() if rich else 0.0,
  )


@pytest.mark.parametrize("blocks", [1, 2, 4, 13])
@pytest.mark.parametrize(("shared", "drawn"), [(0, 2), (1, 3), (2, 0), (3, 99)])
def test_big_bird_draws_blocks(blocks, shared, drawn):
  def table(seed):
    graph, state = made("big_bird", 4, shared, drawn, seed=seed)
    return nnx.merge(graph, state).seen_blocks(blocks)

  extras = []
  for row, seen in enumerate(table(0)):
    seen = [block for block in seen if block != -1]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(blocks))
    fixed = {*range(min(shared, blocks)), row}
    fixed |= {block for block in (row - 1, row + 1) if 0 <= block < blocks}
    assert fixed <= set(seen)
    assert len(seen) == len(fixed) + min(drawn, blocks - len(fixed))
    extras.append(set(seen) - fixed)
  np.testing.assert_array_equal(table(0), table(0))
  if blocks == 13 and 0 < drawn < 9:
    # Drawn anew by another seed, and for each row.
    assert (table(0) != table(1)).any()
    assert len({frozenset(extra) for extra in extras}) > blocks // 2


def blocks_of(mask, size):
  """The real tokens of each block."""
  starts = range(0, T, size)
  return [
    [
      [t for t in range(start, min(start + size, T)) if real[t]]
      for start in starts
    ]
    for real in mask
  ]


def means(x, tokens):
  return np.mean([x[t] for t in tokens], axis=0) if tokens else np.zeros(H)


@pytest.mark.parametrize(
  ("shared", "size", "number"), [(2, 4, 3), (1, 5, 8), (2, 1, 6)]
)
def test_top_k(shared, size, number):
  """Blocks of one token: the best keys of each; and more than are left."""
  mask = holes()
  query, key = draw(B, T, N, H), heads_for_all(draw(B, T, shared, H, seed=1))
  times = np.zeros((B, N, T, T))
  for b, blocks in enumerate(blocks_of(mask, size)):
    for n in range(N):
      for row, own in enumerate(blocks):
        mean = means(query[b, :, n], own)
        fits = {
          column: mean @ means(key[b, :, n], tokens)
          for column, tokens in enumerate(blocks)
          if tokens
        }
        best = sorted(fits, key=lambda column: (-fits[column], column))
        for column in best[:number]:
          times[b, n, row * size : (row + 1) * size, blocks[column]] = 1
  graph, state = made("top_k", size, number, num_kv_heads=shared)
  mixer = nnx.merge(graph, state)
  assert_same(
    lambda *inputs: mixer.attend(*inputs, jnp.asarray(mask), False),
    *(shared, times),
  )


@functools.cache
def full_program(shared, causal):
  graph, _ = made("full", num_kv_heads=shared)
  return jit(
    lambda state, x, mask: nnx.merge(graph, state)(x, mask=mask, causal=causal)
  )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
  ("name", "sizes"),
  [
    ("local", (99,)),
    ("sliding_window", (T,)),
    ("dilated", (T, 1)),
    ("block_sparse", (99, 1)),
    ("block_sparse", (4, 4)),
    ("longformer", (T, 1)),
    ("longformer", (1, 99)),
    ("big_bird", (4, 1, 99)),
    ("big_bird", (4, 99, 0)),
    ("sinkhorn", (99,)),
    ("top_k", (4, 10)),
    ("top_k", (99, 1)),
  ],
)
def test_who_sees_all_is_full(name, sizes, causal):
  if causal and not ATTENTION[name].supports.causal:
    with pytest.raises(ValueError, match="does not support causal"):
      graph, state = made(name, *sizes)
      nnx.merge(graph, state)(jnp.ones((B, T, C)), causal=True)
    return
  graph, state = made(name, *sizes, num_kv_heads=1)
  x, mask = draw(B, T, C), holes()
  found = jit(
    lambda state, x, mask: nnx.merge(graph, state)(x, mask=mask, causal=causal)
  )(state, x, mask)
  chex.assert_trees_all_close(
    found, full_program(1, causal)(state, x, mask), rtol=1e-10, atol=1e-11
  )


@pytest.mark.parametrize(
  ("name", "sizes", "twin", "twin_sizes"),
  [
    ("longformer", (3, 0), "sliding_window", (3,)),
    ("dilated", (3, 1), "sliding_window", (3,)),
    ("big_bird", (T, 0, 0), "local", (T,)),
  ],
)
def test_less_is_another(name, sizes, twin, twin_sizes):
  outs = []
  for each, arguments in ((name, sizes), (twin, twin_sizes)):
    graph, state = made(each, *arguments)
    run = jit(lambda state, x, graph=graph: nnx.merge(graph, state)(x))
    outs.append(run(state, draw(B, T, C)))
  chex.assert_trees_all_close(*outs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
  ("name", "sizes", "reach"),
  [
    ("local", (5,), 5),
    ("sliding_window", (3,), 4),
    ("dilated", (3, 2), 7),
    ("block_sparse", (5, 2), None),
    ("longformer", (3, 2), None),
  ],
)
def test_stream_keeps_what_is_seen(name, sizes, reach):
  """Keys and values of the tokens that may still be seen, and no others."""
  graph, state = made(name, *sizes, num_kv_heads=1)
  mixer = nnx.merge(graph, state)

  def numbers(max_length):
    kept = mixer.init_state(B, max_length)
    return sum(x.size for x in jax.tree.leaves(kept) if x.ndim)

  assert mixer.supports.constant_state == (reach is not None)
  for length in (2, 100, 1000):
    kept = min(length, reach or length)
    assert numbers(length) == 2 * B * kept * H
