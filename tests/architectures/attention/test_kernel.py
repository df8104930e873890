"""Kernel attention against dense weights, and what its papers claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.kernel import kernel_attention
from effarch.architectures.attention.performer import (
  orthogonal_directions,
  positive_features,
)
from effarch.architectures.attention.random_feature import fourier_features
from tests.architectures.attention.twins import check_twin, normal

pytestmark = pytest.mark.usefixtures("small_chunks")

B, T, S, C, N = 2, 11, 7, 8, 4


def averages(weights, value, mask, causal):
  """Values averaged with weights `B T N S`; zeros where nothing is seen."""
  if mask is not None:
    weights = np.where(mask[:, None, None, :], weights, 0)
  if causal:
    later = np.arange(weights.shape[-1]) > np.arange(weights.shape[1])[:, None]
    weights = np.where(later[:, None, :], 0, weights)
  total = weights.sum(-1)[..., None]
  total = np.where(total == 0, 1, total)
  return np.einsum("btns,bsnh->btnh", weights / total, value)


def padding(length):
  """A masked end and, in the second example, a masked beginning."""
  mask = np.ones((B, length), bool)
  mask[0, -2:] = False
  mask[1, :3] = False
  return jnp.array(mask)


@pytest.mark.parametrize(
  ("tokens", "seen", "masked", "causal"),
  [
    (T, T, False, False),
    (T, S, True, False),
    (5, T, False, False),
    (T, T, False, True),
    (T, T, True, True),
  ],
)
def test_kernel_attention(tokens, seen, masked, causal):
  mask = padding(seen) if masked else None
  query, key = (
    np.exp(normal(i, B, n, N, 3)) for i, n in ((0, tokens), (1, seen))
  )
  value = normal(2, B, seen, N, 5)

  def fast(query, key, value):
    return kernel_attention(query, key, value, mask=mask, causal=causal)

  def naive(query, key, value):
    weights = np.einsum("btnf,bsnf->btns", query, key)
    return averages(weights, value, mask, causal)

  check_twin(fast, naive, (query, key, value))


@pytest.mark.parametrize("causal", [False, True])
def test_who_sees_nothing_gets_zeros(causal):
  mask = padding(T).at[0].set(False)
  arguments = [np.exp(normal(i, B, T, N, 3)) for i in range(3)]

  @jax.jit
  def fast(query, key, value):
    out = kernel_attention(query, key, value, mask=mask, causal=causal)
    return jnp.square(out).sum(), out

  (_, out), slopes = jax.value_and_grad(fast, (0, 1, 2), has_aux=True)(
    *arguments
  )
  np.testing.assert_array_equal(out[0], 0)
  np.testing.assert_array_equal(out[1, :3] == 0, causal)
  for slope in slopes:
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[0], 0)
  # The others are seen, and hidden keys and values get no slope.
  assert (slopes[2][1, 3:] != 0).all()
  np.testing.assert_array_equal(slopes[2][1, :3], 0)


def linear_weights(query, key, state):
  query, key = (np.where(x > 0, x + 1, np.exp(x)) for x in (query, key))
  return np.einsum("btnf,bsnf->btns", query, key)


def cosformer_weights(query, key, state):
  weights = np.einsum(
    "btnf,bsnf->btns", np.maximum(query, 0), np.maximum(key, 0)
  )
  apart = np.arange(query.shape[1])[:, None] - np.arange(key.shape[1])
  return weights * np.cos(np.pi * apart / (2 * 16))[:, None, :]


def performer_weights(query, key, state):
  query, key = (
    np.exp(
      np.einsum("btnh,fh->btnf", x, state["directions"]) / 4**0.25
      - (x**2).sum(-1, keepdims=True) / 2 / 4**0.5
    )
    for x in (query, key)
  )
  return np.einsum("btnf,bsnf->btns", query, key)


def random_feature_weights(query, key, state):
  query, key = (
    x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6) for x in (query, key)
  )
  # sin a sin b + cos a cos b = cos(a - b).
  apart = query[:, :, :, None] - key.swapaxes(1, 2)[:, None]
  directions = state["directions"] * state["scale"]
  return np.cos(np.einsum("btnsh,nrh->btnsr", apart, directions)).mean(-1)


MODULES = {
  "linear": ({}, linear_weights),
  "cosformer": ({"max_length": 16}, cosformer_weights),
  "performer": ({"num_features": 6}, performer_weights),
  "random_feature": ({"num_directions": 6}, random_feature_weights),
}


def make(name, **options):
  arguments = {"head_dim": 4, **MODULES[name][0], **options}
  return ATTENTION[name](C, N, rngs=nnx.Rngs(0), **arguments)


@pytest.mark.parametrize(
  ("num_kv_heads", "seen", "masked", "causal"),
  [(4, None, True, False), (2, S, True, False), (2, None, False, True)],
)
@pytest.mark.parametrize("name", MODULES)
def test_modules(name, num_kv_heads, seen, masked, causal):
  mask = padding(seen or T) if masked else None
  with jax.enable_x64(True):
    mixer = nnx.eval_shape(
      lambda: make(name, num_kv_heads=num_kv_heads, param_dtype=jnp.float64)
    )
  graph, params, drawn = nnx.split(mixer, nnx.Param, ...)
  rng = np.random.default_rng(0)
  params, drawn = (
    jax.tree.map(lambda p: rng.normal(size=p.shape) / 2, nnx.to_pure_dict(s))
    for s in (params, drawn)
  )

  def fast(params, x, context=None):
    fixed = jax.tree.map(jnp.asarray, drawn)
    mixer = nnx.merge(graph, nnx.State(params), nnx.State(fixed))
    return mixer(x, context=context, mask=mask, causal=causal)

  def naive(params, x, context=None):
    context = x if context is None else context
    query, key, value = (
      (tokens @ params[part]["kernel"]).reshape(B, tokens.shape[1], -1, 4)
      for part, tokens in (("query", x), ("key", context), ("value", context))
    )
    shared = [n * num_kv_heads // N for n in range(N)]
    key, value = key[:, :, shared], value[:, :, shared]
    weights = MODULES[name][1](query, key, {**params, **drawn})
    mixed = averages(weights, value, mask, causal)
    return mixed.reshape(B, T, N * 4) @ params["out"]["kernel"]

  inputs = [normal(3, B, T, C)]
  if seen:
    inputs.append(normal(4, B, seen, C))
  check_twin(fast, naive, (params, *inputs))


@pytest.mark.parametrize("name", MODULES)
def test_state_has_one_size(name):
  options = {"max_length": 4096} if name == "cosformer" else {}
  mixer = nnx.eval_shape(lambda: make(name, **options))
  short, long = (
    nnx.eval_shape(lambda m, n=n: m.init_state(B, n), mixer) for n in (8, 4096)
  )
  assert short == long
  features = {"linear": 4, "cosformer": 8, "performer": 6, "random_feature": 12}
  assert short["memory"].shape == (B, N, features[name], 4 + 1)
  after = nnx.eval_shape(
    lambda m, s: m.step(jnp.zeros((B, C)), s)[1], mixer, short
  )
  assert after == short


def test_cosformer_refuses_what_is_longer():
  mixer = make("cosformer", max_length=4)
  for call in (
    lambda: mixer(jnp.zeros((1, 5, C))),
    lambda: mixer(jnp.zeros((1, 4, C)), context=jnp.zeros((1, 5, C))),
    lambda: mixer.init_state(1, 5),
  ):
    with pytest.raises(
      ValueError, match="max_length: 5 tokens come, and it is 4"
    ):
      jax.eval_shape(call)


def products(query, key, directions):
  """Estimates of `exp(q k / sqrt(H))`, with the factors that cancel undone."""
  both = (
    positive_features(query, directions, True),
    positive_features(key, directions, False),
  )
  found = jnp.einsum("btnf,bsnf->nts", *both)[0] / len(directions)
  query = query[0, :, 0] * query.shape[-1] ** -0.25
  of_query = (query @ directions.T).max(-1) - jnp.square(query).sum(-1) / 2
  bound = jnp.square(directions).sum(-1).max() / 2
  return (
    found * jnp.exp(of_query)[:, None] * jnp.exp(jnp.maximum(bound - 60, 0))
  )


def test_positive_features():
  x, directions = normal(0, B, T, N, 4), normal(1, 6, 4)
  turned = 4**-0.25 * x
  exponents = np.einsum("btnh,fh->btnf", turned, directions)
  with jax.enable_x64(True):
    query = positive_features(jnp.array(x), jnp.array(directions), True)
    key = positive_features(jnp.array(x), jnp.array(directions), False)
    # Directions so long that the bound on a feature is above e^60.
    long = 9 * directions
    far = positive_features(jnp.array(x), jnp.array(long), False)
  wanted = np.exp(exponents - exponents.max(-1, keepdims=True))
  np.testing.assert_allclose(query, wanted, rtol=1e-9)
  half = (turned**2).sum(-1, keepdims=True) / 2
  np.testing.assert_allclose(key, np.exp(exponents - half), rtol=1e-9)
  bound = (long**2).sum(-1).max() / 2
  assert bound > 60
  wanted = np.exp(9 * exponents - half - (bound - 60))
  np.testing.assert_allclose(far, wanted, rtol=1e-9)


def test_positive_features_of_anything_are_bounded():
  directions = jnp.array(30 * normal(0, 6, 4), jnp.float32)
  x = jnp.logspace(-3, 4, 50, dtype=jnp.float32)[None, :, None, None]
  x = x * jnp.array([1, -1, 0.5, 2], jnp.float32)
  aligned = 4**0.25 * directions[None, :, None]
  for tokens in (x, aligned):
    for is_query in (False, True):
      found = positive_features(tokens, directions, is_query)
      assert np.isfinite(found).all()
      assert found.max() <= np.exp(60.001)


def test_orthogonal_directions():
  found = orthogonal_directions(jax.random.key(0), 20, 8)
  assert found.shape == (20, 8)
  found = np.asarray(found, np.float64)
  length = np.linalg.norm(found, axis=-1)
  cosines = abs(found @ found.T / np.outer(length, length))
  block = np.arange(20) // 8
  same = block[:, None] == block
  np.testing.assert_allclose(
    cosines[same & ~np.eye(20, dtype=bool)], 0, atol=1e-5
  )
  # Blocks are drawn apart, and so are lengths.
  assert cosines[~same].max() > 0.3
  assert len(np.unique(length.round(4))) == 20


@pytest.fixture(scope="module")
def draws():
  """4000 times 8 orthogonal directions of 4 numbers."""
  keys = jax.random.split(jax.random.key(0), 4000)
  return jax.jit(jax.vmap(lambda key: orthogonal_directions(key, 8, 4)))(keys)


def test_each_orthogonal_direction_is_normal(draws):
  # Each of 32 numbers; the worst of so many is within 4.5 standard errors.
  flat = np.asarray(draws, np.float64).reshape(4000, 32)
  np.testing.assert_allclose(flat.mean(0), 0, atol=4.5 / 4000**0.5)
  np.testing.assert_allclose(
    (flat**2).mean(0), 1, atol=4.5 * 2**0.5 / 4000**0.5
  )


def test_performer_is_unbiased_and_better_than_independent(draws):
  query, key = 0.4 * normal(5, 1, 3, 1, 4), 0.4 * normal(6, 1, 3, 1, 4)
  query[0, 0, 0], key[0, 0, 0] = 0.5, 0.5
  exact = np.exp(np.einsum("btnh,bsnh->ts", query, key) / 4**0.5)
  estimate = jax.jit(jax.vmap(products, (None, None, 0)))
  query, key = jnp.array(query), jnp.array(key)
  found = np.asarray(estimate(query, key, draws))
  error = found.std(0) / len(found) ** 0.5
  assert (error < 0.05 * exact).all()
  np.testing.assert_array_less(abs(found.mean(0) - exact), 4.5 * error)
  # Theorem 2 of the paper: a smaller error than that of independent ones.
  independent = jax.random.normal(jax.random.key(1), draws.shape)
  other = np.asarray(estimate(query, key, independent))
  errors = [((x - exact) ** 2).mean(0) for x in (found, other)]
  np.testing.assert_array_less(errors[0], errors[1])


def test_performer_error_falls_as_the_root_of_features():
  # Of long queries and keys a few features would decide.
  query, key, value = (normal(i, 1, 16, 1, 8) / 2 for i in range(3))
  scores = np.exp(np.einsum("btnh,bsnh->btns", query, key) / 8**0.5)
  exact = averages(scores, value, None, False)
  parts = [jnp.array(x, jnp.float32) for x in (query, key, value)]

  def estimate(drawn, num_features):
    directions = orthogonal_directions(drawn, 1024, 8)
    found = [positive_features(parts[i], directions, i == 0) for i in range(2)]
    # The first so many, since the estimate is a sum over features.
    found[1] = jnp.where(jnp.arange(1024) < num_features, found[1], 0)
    return kernel_attention(*found, parts[2])

  sizes = np.array([16, 32, 64, 128, 256, 512, 1024])
  many = jax.jit(jax.vmap(jax.vmap(estimate, (None, 0)), (0, None)))
  found = many(jax.random.split(jax.random.key(2), 24), sizes)
  errors = np.sqrt(np.square(found - exact).mean((0, 2, 3, 4, 5)))
  slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
  assert -0.6 < slope < -0.4
  assert errors[-1] < 0.02


def test_performer_knows_nothing_of_later_keys():
  mixer = make("performer")
  call = jax.jit(lambda x: mixer(x, causal=True))
  x = normal(0, B, T, C).astype(np.float32)
  other = x.copy()
  other[:, -1] = 1e3
  found = call(x), call(other)
  np.testing.assert_array_equal(found[0][:, :-1], found[1][:, :-1])
  assert np.isfinite(found[1]).all()


def test_fourier_features():
  query, key = (normal(i, B, 5, N, 4) / 2 for i in range(2))
  directions = normal(2, N, 2000, 4)
  with jax.enable_x64(True):
    features = [
      np.asarray(fourier_features(jnp.array(x), jnp.array(directions)))
      for x in (query, key)
    ]
  found = np.einsum("btnf,bsnf->btns", *features)
  apart = query[:, :, :, None] - key.swapaxes(1, 2)[:, None]
  waves = np.cos(np.einsum("btnsh,nrh->btnsr", apart, directions))
  np.testing.assert_allclose(found, waves.mean(-1), rtol=1e-9, atol=1e-12)
  # And so an estimate of a Gaussian, 4.5 standard errors at most from it.
  exact = np.exp(-(apart**2).sum(-1) / 2)
  error = waves.std(-1) / 2000**0.5
  np.testing.assert_array_less(abs(found - exact), 4.5 * error)
  assert error.max() < 0.03
