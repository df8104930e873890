"""Attention of sorted blocks and tokens against loops; and what is dropped."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.reformer import lsh_attention
from effarch.architectures.attention.sinkhorn import sinkhorn
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


def naive_sinkhorn(scores, iterations):
  matrix = jnp.exp(scores)
  for _ in range(iterations):
    matrix = matrix / matrix.sum(1, keepdims=True)
    matrix = matrix / matrix.sum(0, keepdims=True)
  return matrix


def naive_sinkhorn_attention(query, key, value, real, temperature):
  """One head of tokens `Q L` in whole blocks; `real` are no padding."""
  blocks, size = real.shape
  own = np.kron(np.eye(blocks), np.ones((size, size)))
  count = np.maximum(real.sum(1, keepdims=True), 1)
  pool = np.kron(np.eye(blocks), np.ones(size)) * real.ravel() / count
  some = np.ix_(real.any(1), real.any(1))
  fit = (pool @ query) @ (pool @ key).T / H**0.5 / temperature
  matrix = (
    jnp.zeros((blocks, blocks))
    .at[some]
    .set(naive_sinkhorn(fit[some], iterations=3))
  )
  # Places of a block get a mixture of the same places of all blocks.
  bring = jnp.kron(matrix, np.eye(size)) * real.ravel()
  come = (real.any(1)[:, None] & real.any(0)).ravel()
  keys = jnp.concatenate([key, bring @ key])
  values = jnp.concatenate([value, bring @ value])
  times = np.concatenate([own * real.ravel(), own * come], axis=1)
  weights = times * jnp.exp(query @ keys.T / H**0.5)
  total = weights.sum(-1, keepdims=True)
  return weights / jnp.where(total > 0, total, 1) @ values


@pytest.mark.parametrize("shared", [1, 2])
def test_sinkhorn(shared):
  length, size, temperature = 14, 4, 0.5
  # One block is all padding, and another place is padding in all blocks.
  mask = np.ones((B, length), bool)
  mask[0, [2, 3]] = mask[1, [1, 5, 8, 9, 10, 11, 13]] = False
  real = np.pad(mask, ((0, 0), (0, 2))).reshape(B, 4, size)

  def reference(query, key, value):
    inputs = [
      jnp.pad(heads_for_all(x), ((0, 0), (0, 2), (0, 0), (0, 0)))
      for x in (query, key, value)
    ]
    outs = [
      [
        naive_sinkhorn_attention(
          *(x[b, :, n] for x in inputs), real[b], temperature
        )
        for n in range(N)
      ]
      for b in range(B)
    ]
    return jnp.array(outs).swapaxes(1, 2)[:, :length]

  options = {"iterations": 3, "temperature": temperature}
  graph, state = made("sinkhorn", size, num_kv_heads=shared, **options)
  mixer = nnx.merge(graph, state)
  inputs = [
    draw(B, length, heads, H, seed=seed)
    for seed, heads in enumerate((N, N, shared, shared))
  ]
  found = with_gradient(
    lambda *inputs: mixer.attend(*inputs, jnp.asarray(mask), False)
  )(*inputs)
  chex.assert_tree_all_finite(found)
  expected = with_gradient(reference)(*inputs)
  chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-10)


def test_sinkhorn_is_doubly_stochastic():
  real = np.array([True, True, False, True])
  run = jit(sinkhorn, static_argnums=2)
  scores = 3 * draw(4, 4)
  # It goes on from where it was: forty times five iterations.
  for _ in range(40):
    found = np.asarray(run(scores, real, 5))
    scores = np.log(np.where(found > 0, found, 1))
  assert (found[2] == 0).all() and (found[:, 2] == 0).all()
  np.testing.assert_allclose(found.sum(0), real, atol=1e-9)
  np.testing.assert_allclose(found.sum(1), real, atol=1e-9)


def unit(x):
  # The least bit keeps the zero vector from a division by zero.
  return x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def shared_buckets(query, directions, mask, size, causal):
  """In how many rounds a token finds another, by sorting lists of tokens."""
  rounds, _, half = directions.shape
  times = np.zeros((B, N, T, T))
  for b in range(B):
    for n in range(N):
      for turn in range(rounds):
        buckets = {}
        for t in range(T):
          near = query[b, t, n] @ directions[turn]
          near = [*near, *-near] if half else [0]
          if mask[b, t]:
            buckets.setdefault(int(np.argmax(near)), []).append(t)
        order = [t for bucket in sorted(buckets) for t in buckets[bucket]]
        chunk = {t: place // size for place, t in enumerate(order)}
        for tokens in buckets.values():
          for t in tokens:
            if causal:
              seen = [s for s in tokens if s <= t][-size:]
            else:
              seen = [s for s in tokens if chunk[t] - chunk[s] in (0, 1)]
            times[b, n, t, seen] += 1
  # A token sees itself only where it sees no other.
  for t in range(T):
    others = times[:, :, t].sum(-1) - times[:, :, t, t]
    times[:, :, t, t] *= others == 0
  return times


@pytest.mark.parametrize(
  ("size", "buckets", "rounds", "causal"),
  [
    (5, 4, 3, False),
    (5, 2, 3, True),
    (1, 6, 2, True),
    (99, 1, 2, False),
  ],
)
def test_reformer(size, buckets, rounds, causal):
  mask, query, value = holes(), draw(B, T, N, H), draw(B, T, N, H, seed=2)
  # The cotangent of padding is zero: what it becomes means nothing.
  cotangent = draw(B, T, N, H, seed=3) * mask[:, :, None, None]
  directions = draw(rounds, H, buckets // 2)
  times = shared_buckets(query, directions, mask, size, causal)
  assert times.max() == rounds

  @with_gradient
  def run(query, value):
    return lsh_attention(
      *(query, value, jnp.asarray(directions)),
      chunk_size=size,
      mask=jnp.asarray(mask),
      causal=causal,
    )

  @with_gradient
  def reference(query, value):
    return dense(query, unit(query), value, times, 0.0)

  out, pulled = run(cotangent, query, value)
  chex.assert_tree_all_finite((out, pulled))
  expected = reference(cotangent, query, value)
  real = mask[:, :, None, None]
  chex.assert_trees_all_close(
    (out * real, pulled),
    (expected[0] * real, expected[1]),
    rtol=1e-9,
    atol=1e-10,
  )


def test_reformer_of_one_bucket_is_full_with_unit_keys():
  graph, state = made(*("reformer", T, 1), num_kv_heads=1, num_rounds=2)
  x, times = draw(B, T, C), np.broadcast_to(1 - np.eye(T), (B, N, T, T))

  @jit
  def reference(x):
    w = {part: state[part]["kernel"][...] for part in ("query", "value", "out")}
    query = (x @ w["query"]).reshape(B, T, N, H)
    value = (x @ w["value"]).reshape(B, T, 1, H).repeat(N, 2)
    out = dense(query, unit(query), value, times, 0.0)
    return out.reshape(B, T, -1) @ w["out"]

  chex.assert_trees_all_close(
    jit(lambda state, x: nnx.merge(graph, state)(x))(state, x),
    *(reference(x),),
    rtol=1e-9,
    atol=1e-10,
  )


@pytest.mark.parametrize(
  ("name", "sizes"),
  [
    ("local", (2,)),
    ("longformer", (2, 1)),
    ("big_bird", (2, 1, 1)),
    ("sinkhorn", (3,)),
    ("reformer", (3, 2)),
    ("top_k", (2, 2)),
  ],
)
def test_dropout(name, sizes):
  """The mean is undropped; rows drop for themselves; gradients drop alike."""
  shape = (B, 9, N, H)
  query, key, value = (jnp.asarray(draw(*shape, seed=n)) for n in range(3))
  cotangent = draw(*shape, seed=3)

  def run(rng, rate):
    def function(value):
      rngs = nnx.Rngs(params=0, dropout=rng)
      mixer = ATTENTION[name](C, N, *sizes, dropout_rate=rate, rngs=rngs)
      if name == "reformer":
        options = {"chunk_size": sizes[0], **mixer.dropout()}
        return lsh_attention(query, value, mixer.directions[...], **options)
      return mixer.attend(query, key, value, None, False)

    out, pull = jax.vjp(function, value)
    # Outputs are linear in values: both products are the same.
    return out, jnp.vdot(cotangent, out), jnp.vdot(pull(cotangent)[0], value)

  rngs = jax.random.split(jax.random.key(0), 1500)
  outs, products, pulled = jax.device_get(
    jit(jax.vmap(lambda rng: run(rng, 0.4)))(rngs)
  )
  np.testing.assert_allclose(products, pulled, rtol=1e-9, atol=1e-9)
  expected = jit(lambda: run(rngs[0], 0.0)[0])()
  error = outs.std(0) / len(outs) ** 0.5
  assert (error > 0).all()
  assert (abs(outs.mean(0) - np.asarray(expected)) < 5 * error).all()
  rows = outs[..., 0].reshape(len(outs), -1)
  together = np.corrcoef(rows.T) - np.eye(rows.shape[1])
  assert abs(together).max() < 0.15
