"""Mixers without attention against the formulas of their papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from tests.architectures.attention.twins import (
  check_twin,
  gelu,
  linear,
  normal,
  shown,
  sigmoid,
)

B, T, C, M = 2, 7, 8, 10


def visible(mask, causal):
  """Whether the first sees the second of two tokens, `B T T`."""
  found = np.ones((B, T, T), bool)
  if causal:
    found &= np.tri(T, dtype=bool)
  if mask is not None:
    found &= mask[:, None]
  return found


def naive_fnet(params, x, mask, causal):
  def transform(size):
    places = np.arange(size)
    return np.exp(-2j * np.pi * np.outer(places, places) / size)

  x = shown(x, mask)
  return np.stack([(transform(T) @ one @ transform(C)).real for one in x])


def naive_gmlp(params, x, mask, causal):
  kept, mixed = np.split(gelu(linear(params["expand"], x)), 2, axis=-1)
  mean = mixed.mean(-1, keepdims=True)
  mixed = (mixed - mean) / np.sqrt(mixed.var(-1, keepdims=True) + 1e-6)
  mixed = mixed * params["norm"]["scale"] + params["norm"]["bias"]
  weights = np.where(visible(mask, causal), params["mixing"][:T, :T], 0)
  gate = weights @ mixed + params["offset"][:T, None]
  return linear(params["out"], kept * gate)


def naive_mlp_mixer(params, x, mask, causal):
  # What is not there is zeros.
  x = np.concatenate([shown(x, mask), np.zeros((B, M - T, C))], axis=1)
  out = np.empty_like(x)
  for b, c in np.ndindex(B, C):
    hidden = gelu(linear(params["expand"], x[b, :, c]))
    out[b, :, c] = linear(params["out"], hidden)
  return out[:, :T]


def naive_aft(params, x, mask, causal):
  query, key, value = (linear(params[p], x) for p in ("query", "key", "value"))
  bias = (params["rows"] @ params["columns"].T)[:T, :T]
  # For each channel a sum of exponentials; zeros where nothing is seen.
  weights = np.exp(key[:, None] + bias[None, :, :, None])
  weights = np.where(visible(mask, causal)[..., None], weights, 0)
  total = weights.sum(2)
  mixed = (weights * value[:, None]).sum(2) / np.where(total == 0, 1, total)
  return linear(params["out"], sigmoid(query) * mixed)


MODULES = {
  "fnet": ({}, naive_fnet),
  "gmlp": ({"max_length": M, "hidden_features": 6}, naive_gmlp),
  "mlp_mixer": ({"max_length": M, "hidden_features": 5}, naive_mlp_mixer),
  "aft": ({"max_length": M, "rank": 3}, naive_aft),
}


def make(name, **options):
  return ATTENTION[name](C, rngs=nnx.Rngs(0), **MODULES[name][0], **options)


@pytest.mark.parametrize(
  ("name", "causal"),
  [
    (n, c)
    for n in MODULES
    for c in (False, True)
    if n in ("gmlp", "aft") or not c
  ],
)
def test_modules(name, causal):
  options = {} if name == "fnet" else {"param_dtype": jnp.float64}
  with jax.enable_x64(True):
    mixer = nnx.eval_shape(lambda: make(name, **options))
  graph, params = nnx.split(mixer, nnx.Param)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda p: rng.normal(size=p.shape) / 2, nnx.to_pure_dict(params)
  )
  # All of one example; of the other neither the first, so that a causal token
  # sees nothing, nor one in between.
  mask = np.ones((B, T), bool)
  mask[1, [0, 3]] = False

  def fast(params, x):
    mixer = nnx.merge(graph, nnx.State(params))
    return mixer(x, mask=jnp.array(mask), causal=causal)

  def naive(params, x):
    return MODULES[name][1](params, x, mask, causal)

  check_twin(fast, naive, (params, normal(1, B, T, C)))


@pytest.mark.parametrize("name", MODULES)
def test_no_mask_is_a_mask_of_all(name):
  mixer, x = make(name), normal(0, B, T, C).astype(np.float32)
  both = jax.jit(lambda x: (mixer(x), mixer(x, mask=jnp.ones((B, T), bool))))
  np.testing.assert_array_equal(*both(x))


@pytest.fixture(scope="module")
def aft():
  """AFT whose keys are its tokens, and its values what sets channels apart.

  Returns what comes out for tokens, and slopes of the sum of its squares: of
  the mixer, and of the naive twin in float64 without slopes.
  """
  mixer = make("aft")
  apart = normal(9, C, C)
  kernels = {
    "query": np.zeros((C, C)),
    "key": np.eye(C),
    "value": apart - apart.mean(0),
    "out": np.eye(C),
  }
  for name, kernel in kernels.items():
    getattr(mixer, name).kernel[...] = jnp.array(kernel, jnp.float32)
  params = jax.tree.map(
    lambda p: np.asarray(p, np.float64),
    nnx.to_pure_dict(nnx.state(mixer, nnx.Param)),
  )

  @functools.partial(jax.jit, static_argnums=1)
  def fast(x, causal):
    out, pull = jax.vjp(lambda x: mixer(x, causal=causal), x)
    return out, pull(2 * out)[0]

  return (
    lambda x, causal: fast(jnp.array(x, jnp.float32), causal),
    lambda x, causal: naive_aft(params, x, None, causal),
  )


@pytest.mark.parametrize(
  ("causal", "shift"),
  # Causal keys are bounded, so that what comes later scales nothing.
  [(False, s) for s in (-200, -50, 0, 30, 200)]
  + [(True, s) for s in (-50, 0, 30, 55)],
)
def test_aft_weighs_keys_by_their_differences(aft, causal, shift):
  fast, naive = aft
  x = normal(0, B, T, C) + shift
  out, slope = fast(x, causal)
  np.testing.assert_allclose(out, naive(x, causal), atol=1e-3)
  assert np.isfinite(slope).all() and abs(slope).max() > 0.1
  # No slope along what changes nothing.
  np.testing.assert_allclose(slope.sum((1, 2)), 0, atol=1e-2)


@pytest.mark.parametrize("large", [30, 200])
@pytest.mark.parametrize("causal", [False, True])
def test_aft_with_one_large_key(aft, causal, large):
  fast, naive = aft
  x = normal(0, B, T, C)
  x[:, 4] += large
  out, slope = fast(x, causal)
  # Of tokens before it too, where they do not see it.
  np.testing.assert_allclose(out, naive(x, causal), atol=1e-3)
  assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", ["gmlp", "mlp_mixer", "aft", "hyena"])
def test_more_tokens_than_places(name):
  options = {**MODULES.get(name, [{}])[0], "max_length": 4}
  calls = [lambda m: m(jnp.zeros((1, 5, C)), causal=name != "mlp_mixer")]
  if name != "mlp_mixer":
    calls.append(lambda m: m.init_state(1, 5))
  for call in calls:
    with pytest.raises(
      ValueError, match="max_length: 5 tokens come, and it is"
    ):
      nnx.eval_shape(
        lambda call=call: call(ATTENTION[name](C, rngs=nnx.Rngs(0), **options))
      )
