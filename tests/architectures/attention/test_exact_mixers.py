"""Exact mixers against their definitions: positions, shared heads, latents."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.heads import rotary
from tests.architectures.attention.dense import (
  assert_same,
  dense,
  distances,
  draw,
  holes,
  jit,
  visible_pairs,
)

B, C = 2, 8


exact = pytest.mark.usefixtures("float64", "small_chunks")


def turned(x, positions):
  """RoFormer's turns, with pairs of features as complex numbers."""
  half = x.shape[-1] // 2
  pairs = x[..., :half] + 1j * x[..., half:]
  speeds = np.array([1e4 ** (-i / half) for i in range(half)])
  pairs = pairs * jnp.exp(1j * jnp.asarray(positions)[:, None, None] * speeds)
  return jnp.concatenate([pairs.real, pairs.imag], axis=-1)


@exact
def test_rotary_depends_on_the_distance_alone():
  x, y = draw(B, 7, 2, 6), draw(B, 7, 2, 6, seed=1)
  places = np.array([0, 1, 2, 3, 11, 40, 400])
  turn = jit(rotary)
  found = turn(x, places)
  expected = jit(turned)(x, places)
  chex.assert_trees_all_close(found, expected, rtol=1e-12, atol=1e-12)
  chex.assert_trees_all_equal(np.asarray(found)[:, 0], x[:, 0])
  products = [
    np.einsum(
      "btnh,bsnh->bnts", turn(x, places + shift), turn(y, places + shift)
    )
    for shift in (0, 123)
  ]
  chex.assert_trees_all_close(*products, rtol=1e-9, atol=1e-9)


def made(name, *sizes, **options):
  """Returns a mixer's graph, and numbers for all its parameters."""

  def make():
    kinds = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
    return ATTENTION[name](C, *sizes, **kinds, **options)

  graph, state = nnx.split(nnx.eval_shape(make))
  generator = np.random.default_rng(0)
  return graph, jax.tree.map(
    lambda x: generator.normal(size=x.shape) / C**0.5, state
  )


def call(graph, **options):
  """Returns the mixer as a function of parameters and tokens."""

  def function(state, x, **more):
    return nnx.merge(graph, state)(x, **options, **more)

  return function


def weights(state):
  """The arrays of the mixer's layers."""
  return {path[0]: leaf[...] for path, leaf in nnx.to_flat_state(state)}


@exact
@pytest.mark.parametrize("positions", ["none", "rotary", "alibi"])
def test_mixer(positions):
  """Projections, positions and heads, forward and to all parameters."""
  options = {"num_kv_heads": 1, "head_dim": 6, "positions": positions}
  graph, state = made("full", 2, **options)
  pairs = visible_pairs(11, 11, None, True)
  # The paper's slopes for two heads: 2^-4 and 2^-8.
  slopes = [2.0**-4, 2.0**-8] if positions == "alibi" else [0.0, 0.0]
  bias = distances(slopes, 11, 11)

  def reference(state, x):
    w = weights(state)
    query, key, value = (
      (x @ w[part]).reshape(B, 11, -1, 6) for part in ("query", "key", "value")
    )
    if positions == "rotary":
      query, key = (turned(y, np.arange(11)) for y in (query, key))
    return dense(query, key, value, pairs, bias).reshape(B, 11, -1) @ w["out"]

  function = call(graph, causal=True)
  assert_same(function, reference, (B, 11, C), *(state, draw(B, 11, C)))


@exact
@pytest.mark.parametrize("positions", ["rotary", "alibi"])
def test_mixer_does_not_know_where_a_sequence_starts(positions):
  graph, state = made("full", 2, positions=positions)
  x = draw(B, 11, C)
  mask = np.arange(11)[None].repeat(B, 0) >= 4
  late = np.asarray(jit(call(graph))(state, x, mask=mask))[:, 4:]
  early = jit(call(graph))(state, x[:, 4:])
  chex.assert_trees_all_close(late, early, rtol=1e-9, atol=1e-10)


@exact
@pytest.mark.parametrize(
  ("name", "sizes", "shared"),
  [
    ("grouped_query", (4,), 4),
    ("grouped_query", (2,), 2),
    ("multi_query", (), 1),
  ],
)
def test_grouped_queries_are_full_with_repeated_keys(name, sizes, shared):
  graph, state = made(name, 4, *sizes)
  twin, repeated = made("full", 4)
  for part in ("query", "key", "value", "out"):
    kernel = state[part]["kernel"][...]
    if part in ("key", "value"):
      assert kernel.shape == (C, shared * 2)
      owners = [head * shared // 4 for head in range(4)]
      kernel = kernel.reshape(C, shared, 2)[:, owners].reshape(C, C)
    repeated[part]["kernel"][...] = kernel
  x, context = draw(B, 5, C), draw(B, 7, C, seed=1)
  chex.assert_trees_all_close(
    jit(call(graph))(state, x, context=context),
    jit(call(twin))(repeated, x, context=context),
    rtol=1e-12,
    atol=1e-12,
  )
  kept = nnx.merge(graph, state).init_state(B, 10)
  assert kept["key"].shape == kept["value"].shape == (B, 10, shared, 2)


LATENT = {"latent_dim": 3, "rotary_dim": 2, "head_dim": 6}


@exact
@pytest.mark.parametrize("causal", [False, True])
def test_latent(causal):
  graph, state = made("latent", 2, **LATENT)
  length, seen = (9, 9) if causal else (5, 11)
  context = {} if causal else {"context": draw(B, seen, C, seed=1)}
  mask = holes(seen)
  pairs = visible_pairs(length, seen, mask, causal)

  def reference(state, x, more):
    w = weights(state)
    query = (x @ w["query"]).reshape(B, length, 2, 8)
    query = jnp.concatenate(
      [query[..., :6], turned(query[..., 6:], np.arange(length))], axis=-1
    )
    low = more.get("context", x) @ w["compress"]
    latent, shared = low[..., :3], low[..., None, 3:]
    size = jnp.sqrt((latent**2).mean(-1, keepdims=True) + 1e-6)
    latent = latent / size * w["norm"]
    shared = turned(shared, np.arange(seen))
    key = (latent @ w["key"]).reshape(B, seen, 2, 6)
    key = jnp.concatenate(
      [key, jnp.concatenate([shared, shared], axis=2)], axis=-1
    )
    value = (latent @ w["value"]).reshape(B, seen, 2, 6)
    out = dense(query, key, value, pairs, 0.0)
    return out.reshape(B, length, -1) @ w["out"]

  function = call(graph, mask=jnp.asarray(mask), causal=causal)
  assert_same(
    lambda state, x, more: function(state, x, **more),
    *(reference, (B, length, C), state, draw(B, length, C), context),
  )


@exact
def test_latent_stream_keeps_the_latent_alone():
  graph, weights = made("latent", 2, **LATENT)
  x = draw(B, 6, C)
  state = nnx.merge(graph, weights).init_state(B, 10)
  numbers = sum(y.size for y in jax.tree.leaves(state) if y.ndim)
  assert numbers == B * 10 * (3 + 2)
  step = jit(lambda weights, x, s: nnx.merge(graph, weights).step(x, s))
  outs = []
  for t in range(6):
    out, state = step(weights, x[:, t], state)
    outs.append(np.asarray(out))
  expected = jit(call(graph, causal=True))(weights, x)
  chex.assert_trees_all_close(
    np.stack(outs, 1), expected, rtol=1e-9, atol=1e-10
  )
