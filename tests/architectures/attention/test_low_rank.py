"""Attention of low rank, and of scores that compare no tokens, in float64."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention.nystromformer import (
  landmarks,
  pseudo_inverse,
)
from tests.architectures.attention.dense import draw, jit, made

pytestmark = pytest.mark.usefixtures("float64", "small_chunks")

# Of the synthesizers' and Linformer's greatest length, not all is used.
B, T, N, H, C, LONGEST = 2, 11, 2, 4, 8, 13


def holes():
  mask = np.ones((B, T), bool)
  mask[0, [0, 4]] = False
  mask[1, [1, 6, 7, 8, 10]] = False
  return mask


def call(graph, mask=None, **options):
  """Returns the mixer as a function of parameters and tokens."""
  mask = None if mask is None else jnp.asarray(mask)

  def function(state, *x):
    context = {"context": x[1]} if len(x) > 1 else {}
    return nnx.merge(graph, state)(x[0], mask=mask, **context, **options)

  return function


def weights(state):
  """The arrays of the mixer's layers, by their first names."""
  return {path[0]: leaf[...] for path, leaf in nnx.to_flat_state(state)}


def heads(x, kernel):
  """Projected tokens `B T N H`, with shared heads repeated."""
  x = (x @ kernel).reshape(*x.shape[:2], -1, H)
  return x[:, :, [head * x.shape[2] // N for head in range(N)]]


def softmax(scores, visible=1.0):
  weights = jnp.exp(scores) * visible
  total = weights.sum(-1, keepdims=True)
  return weights / jnp.where(total > 0, total, 1)


def scored(query, key):
  """Scaled products of `B T N H` and `B S N H`, `B N T S`."""
  return jnp.einsum("btnh,bsnh->bnts", query, key) / H**0.5


def averaged(shares, value, kernel):
  """Values averaged by head, joined and projected back."""
  out = jnp.einsum("bnts,bsnh->btnh", shares, value)
  return out.reshape(*out.shape[:2], -1) @ kernel


def visible_pairs(mask, causal):
  pairs = np.zeros((B, 1, T, T))
  for b in range(B):
    for t in range(T):
      for s in range(T):
        pairs[b, 0, t, s] = mask[b, s] and (s <= t or not causal)
  return pairs


def assert_same(function, reference, *inputs, real=1.0):
  """Compares outputs and gradients; what is not `real` means nothing."""

  def with_gradient(function, cotangent, *inputs):
    out, pull = jax.vjp(function, *inputs)
    return out * real, pull(cotangent * real)

  cotangent = draw(*inputs[1].shape, seed=9)
  found, expected = (
    jit(functools.partial(with_gradient, each))(cotangent, *inputs)
    for each in (function, reference)
  )
  chex.assert_tree_all_finite(found)
  chex.assert_trees_all_close(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shared", [1, 2])
def test_linformer(shared):
  """Mixtures of the tokens of another sequence, of which some are hidden."""
  graph, state = made("linformer", LONGEST, 3, num_kv_heads=shared)
  mask = holes()

  def reference(state, x, context):
    w = weights(state)
    # Rows of the projections for what is padding, or beyond, are not used.
    mix_keys, mix_values = (
      w[part][None, :T] * mask[:, :, None]
      for part in ("mix_keys", "mix_values")
    )
    key = jnp.einsum("bsnh,bsr->brnh", heads(context, w["key"]), mix_keys)
    value = jnp.einsum("bsnh,bsr->brnh", heads(context, w["value"]), mix_values)
    shares = softmax(scored(heads(x, w["query"]), key))
    return averaged(shares, value, w["out"])

  inputs = draw(B, 5, C), draw(B, T, C, seed=1)
  assert_same(call(graph, mask), reference, state, *inputs)


def test_linformer_that_mixes_nothing_is_full():
  graph, state = made("linformer", T, T)
  state["mix_keys"][...] = state["mix_values"][...] = np.eye(T)
  twin, twin_state = made("full")
  for part in ("query", "key", "value", "out"):
    twin_state[part] = state[part]
  x = draw(B, T, C)
  found = jit(call(graph))(state, x)
  expected = jit(call(twin))(twin_state, x)
  chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-11)


def naive_landmarks(x, mask, number):
  """Means of the real tokens of equal segments, in lists."""
  size = -(-T // number)
  means, real = np.zeros((B, N, number, H)), np.zeros((B, number), bool)
  for b in range(B):
    for segment in range(number):
      tokens = [t for t in range(segment * size, (segment + 1) * size) if t < T]
      tokens = [t for t in tokens if mask[b, t]]
      real[b, segment] = bool(tokens)
      if tokens:
        means[b, :, segment] = np.mean([x[b, :, t] for t in tokens], axis=0)
  return means, real


@pytest.mark.parametrize("number", [1, 3, 4, T])
def test_landmarks(number):
  x, mask = draw(B, N, T, H), holes()
  found = jit(landmarks, static_argnums=2)(x, mask, number)
  expected = naive_landmarks(x, mask, number)
  chex.assert_trees_all_close(found, expected, rtol=1e-12, atol=1e-12)
  # With four segments of three tokens, one is padding alone.
  assert expected[1].all() == (number in (1, 3))


@pytest.mark.parametrize("rank", [6, 4])
def test_pseudo_inverse(rank):
  """Of whole rank and of less; sizes that differ by the matrix."""
  bases = [np.linalg.svd(draw(6, 6, seed=seed)) for seed in range(3)]
  sizes = np.where(np.arange(6) < rank, np.linspace(3, 1, 6), 0)
  x = np.stack([u * sizes @ v for u, _, v in bases])
  x = x * np.array([1e-3, 1.0, 1e3])[:, None, None]
  # Rounding in what has no inverse grows with each step, so not too many.
  found = np.asarray(jit(pseudo_inverse, static_argnums=1)(x, 12))
  for matrix, inverse in zip(x, found, strict=True):
    expected = np.linalg.pinv(matrix, rcond=1e-10)
    scale = abs(expected).max()
    np.testing.assert_allclose(inverse, expected, atol=1e-7 * scale)


def test_pseudo_inverse_converges_with_the_third_order():
  """The paper's iteration multiplies errors `E` to about `E^3`'s order."""
  x = np.eye(5) + 0.1 * draw(5, 5)
  run = jit(pseudo_inverse, static_argnums=1)
  errors = [
    np.linalg.norm(np.eye(5) - x @ np.asarray(run(x, steps)), 2)
    for steps in range(12)
  ]
  near = [error for error in errors if 1e-12 < error < 0.3]
  assert len(near) >= 2
  for before, after in itertools.pairwise(near):
    assert after < 4 * before**3


@pytest.mark.parametrize(
  ("number", "kernel_size", "shared"), [(4, 3, 1), (3, None, 2), (2, 5, 2)]
)
def test_nystromformer(number, kernel_size, shared):
  """The formula, with landmarks as lists of tokens and an exact inverse."""
  options = {"kernel_size": kernel_size, "iterations": 25}
  graph, state = made("nystromformer", number, num_kv_heads=shared, **options)
  mask = holes()
  size = -(-T // number)
  # Which token is averaged to which landmark; those of padding are left out.
  pools = []
  for b in range(B):
    segments = [range(i * size, min((i + 1) * size, T)) for i in range(number)]
    real = [[t for t in segment if mask[b, t]] for segment in segments]
    pools.append(
      np.stack(
        [
          np.isin(np.arange(T), tokens) / len(tokens)
          for tokens in real
          if tokens
        ]
      )
    )
  assert (len(pools[1]) < number) == (number == 4)

  def reference(state, x):
    w = weights(state)
    query, key, value = (
      heads(x, w[part]) for part in ("query", "key", "value")
    )
    rows = []
    for b, pool in enumerate(pools):
      few_queries = jnp.einsum("mt,tnh->mnh", pool, query[b])[None]
      few_keys = jnp.einsum("mt,tnh->mnh", pool, key[b])[None]
      inverse = jnp.linalg.inv(softmax(scored(few_queries, few_keys)))
      left = softmax(scored(query[b][None], few_keys))
      right = softmax(scored(few_queries, key[b][None]), mask[b] * 1.0)
      rows.append((left @ inverse @ right)[0])
    out = jnp.einsum("bnts,bsnh->btnh", jnp.stack(rows), value)
    if kernel_size is not None:
      seen = value * mask[:, :, None, None]
      for place in range(kernel_size):
        # A diagonal: token `t` gets the one at `t + place - side`.
        shift = np.eye(T, k=place - kernel_size // 2)
        moved = jnp.einsum("ts,bsnh->btnh", shift, seen)
        out = out + moved * w["kernel"][place][:, None]
    return out.reshape(B, T, -1) @ w["out"]

  assert_same(
    call(graph, mask), reference, state, draw(B, T, C), real=mask[..., None]
  )


def test_nystromformer_with_all_landmarks_is_full():
  options = {"kernel_size": None, "iterations": 80}
  graph, state = made("nystromformer", 99, **options)
  twin, _ = made("full")
  # Scores that differ much make the matrix of weights easy to invert.
  state["query"]["kernel"][...] = 3 * state["query"]["kernel"][...]
  x, mask = draw(B, T, C), holes()
  found = jit(call(graph, mask))(state, x)
  expected = jit(call(twin, mask))(state, x)
  chex.assert_trees_all_close(
    *(np.asarray(y) * mask[..., None] for y in (found, expected)),
    rtol=1e-6,
    atol=1e-7,
  )


@pytest.mark.parametrize("mask", [np.zeros((B, T), bool), holes()])
def test_nystromformer_reads_no_padding(mask):
  """What padding holds changes nothing; padding alone gives zeros."""
  graph, state = made("nystromformer", 4, kernel_size=3)
  run = jit(call(graph, mask))
  x = draw(B, T, C)
  other = np.where(mask[..., None], x, 100 * draw(B, T, C, seed=1))
  outs = [np.asarray(run(state, y)) for y in (x, other)]
  assert np.isfinite(outs).all()
  chex.assert_trees_all_close(
    *(out * mask[..., None] for out in outs), rtol=1e-9, atol=1e-10
  )
  if not mask.any():
    chex.assert_trees_all_close(outs[0], np.zeros((B, T, C)), atol=1e-12)


def dense_scores(w, x):
  """Each place has its own row of a second layer."""
  hidden = jnp.maximum(x @ w["query"], 0).reshape(B, T, N, H)
  return jnp.einsum("btnh,snh->bnts", hidden, w["places"][:T])


def random_scores(w, x):
  return w["scores"][None, :, :T, :T]


def factorized_scores(w, x):
  return jnp.einsum("tnr,snr->nts", w["rows"][:T], w["columns"][:T])[None]


SYNTHESIZERS = {
  "dense_synthesizer": ({}, dense_scores),
  "random_synthesizer": ({}, random_scores),
  "factorized_random_synthesizer": ({"rank": 3}, factorized_scores),
}


@pytest.mark.parametrize("rich", [False, True])
@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_synthesizer(name, rich):
  """Bidirectional with all heads; or causal, and one head of values."""
  options, scores = SYNTHESIZERS[name]
  shared = 1 if rich else 2
  graph, state = made(name, LONGEST, num_kv_heads=shared, **options)
  mask = holes()
  pairs = visible_pairs(mask, rich)

  def reference(state, x):
    w = weights(state)
    shares = softmax(scores(w, x), pairs)
    return averaged(shares, heads(x, w["value"]), w["out"])

  x = draw(B, T, C)
  assert_same(call(graph, mask, causal=rich), reference, state, x)


@pytest.mark.parametrize("name", ["linformer", *SYNTHESIZERS])
def test_more_tokens_than_parameters(name):
  sizes = (4, 3) if name == "linformer" else (4,)
  graph, state = made(name, *sizes)
  mixer = nnx.merge(graph, state)
  message = "max_length: 5 tokens come, and it is 4"
  with pytest.raises(ValueError, match=message):
    mixer(jnp.asarray(draw(B, 5, C)))
  if mixer.supports.streaming:
    with pytest.raises(ValueError, match=message):
      mixer.init_state(B, 5)
  else:
    # It is the tokens that are seen that there are parameters for.
    x, context = (jnp.asarray(draw(B, length, C)) for length in (5, 4))
    assert jit(call(graph))(state, x, context).shape == (B, 5, C)
