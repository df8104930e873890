"""Mixers with a memory of keys and values, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import (
  ATTENTION,
)
from tests.architectures.attention.twins import (
  check_twin,
  convolve,
  linear,
  naive_delta,
  naive_gated,
  naive_linear,
  normal,
  rms_norm,
  shown,
  sigmoid,
  silu,
  softplus,
)

pytestmark = pytest.mark.usefixtures("small_chunks")

B, T, C, N, H = 2, 11, 8, 4, 4


def heads(params, x, part, then=lambda x, part: x):
  """A part in its heads, of which neighbours may share keys and values."""
  found = then(linear(params[part], x), part).reshape(*x.shape[:2], -1, H)
  return found[:, :, [n * found.shape[2] // N for n in range(N)]]


def finish(params, x, mixed):
  mixed = rms_norm(params["norm"], mixed).reshape(*x.shape[:2], -1)
  return (linear(params["out"], mixed * silu(linear(params["gate"], x))),)


def turned(x):
  """Rotary positions: pairs are complex numbers that turn."""
  pairs = x[..., : H // 2] + 1j * x[..., H // 2 :]
  speeds = 10000.0 ** (-np.arange(H // 2) / (H // 2))
  pairs = pairs * np.exp(1j * np.arange(x.shape[1])[:, None, None] * speeds)
  return np.concatenate([pairs.real, pairs.imag], axis=-1)


def naive_retnet(params, x, mask):
  x = shown(x, mask)
  query, key = (
    turned(heads(params, x, "query")),
    turned(heads(params, x, "key")),
  )
  log_decay = np.broadcast_to(np.log(1 - 2.0 ** (-5 - np.arange(N))), (B, T, N))
  log_decay = shown(log_decay, mask)
  value = heads(params, x, "value")
  mixed, _ = naive_linear(query / H**0.5, key, value, log_decay)
  return finish(params, x, mixed)


def naive_gated_linear(params, x, mask):
  x = shown(x, mask)
  opened = linear(params["gate_up"], linear(params["gate_down"], x))
  log_decay = shown(np.log(sigmoid(opened)) / 16, mask).reshape(B, T, N, H)
  tokens = (heads(params, x, part) for part in ("query", "key", "value"))
  return finish(params, x, naive_gated(*tokens, log_decay)[0])


def naive_delta_net(params, x, mask):
  x = shown(x, mask)

  def short(x, part):
    return silu(convolve(params["convolutions"][part]["kernel"], x))

  query, key, value = (
    heads(params, x, part, short) for part in ("query", "key", "value")
  )
  query, key = (
    part / np.sqrt((part**2).sum(-1, keepdims=True) + 1e-6)
    for part in (query, key)
  )
  strength = shown(sigmoid(linear(params["strength"], x)), mask)
  log_decay = None
  if "decay" in params:
    size = softplus(linear(params["decay"], x) + params["step_bias"])
    log_decay = shown(-np.exp(params["log_rate"]) * size, mask)
  mixed, _ = naive_delta(query, key, value, strength, log_decay)
  return finish(params, x, mixed)


# Two heads share keys and values.
SHARED = {"num_heads": N, "num_kv_heads": 2, "head_dim": H}
MODULES = {
  "retnet": (SHARED, naive_retnet),
  "gated_linear": ({**SHARED, "gate_rank": 2}, naive_gated_linear),
  "delta": (SHARED, naive_delta_net),
  "gated_delta": (SHARED, naive_delta_net),
}


def shaken(name, **options):
  """A mixer's graph, and random numbers for all of its parameters."""
  arguments = {**MODULES[name][0], **options}
  with jax.enable_x64(True):
    mixer = nnx.eval_shape(
      lambda: ATTENTION[name](
        C, rngs=nnx.Rngs(0), param_dtype=jnp.float64, **arguments
      )
    )
  graph, params = nnx.split(mixer, nnx.Param)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda p: rng.normal(size=p.shape) / 2, nnx.to_pure_dict(params)
  )
  return lambda params: nnx.merge(graph, nnx.State(params)), params


def holes():
  """All of one example; one with padding in front, between and at the end."""
  mask = np.ones((B, T), bool)
  mask[1, [0, 1, 5, 10]] = False
  return mask


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
  merge, params = shaken(name)
  mask = holes()

  def fast(params, x):
    # What padding becomes means nothing.
    out = merge(params)(x, mask=jnp.array(mask), causal=True)
    return (jnp.where(mask[:, :, None], out, 0),)

  def naive(params, x):
    return (shown(MODULES[name][1](params, x, mask)[0], mask),)

  check_twin(fast, naive, (params, normal(1, B, T, C)))


@pytest.mark.parametrize("name", MODULES)
def test_padding_in_front_is_as_if_not_there(name):
  # What a bias makes of padding is no token either.
  merge, params = shaken(name, use_bias=True)
  x = normal(1, B, T + 3, C)
  mask = np.broadcast_to(np.arange(T + 3) > 2, (B, T + 3))

  @jax.jit
  def both(params, x):
    mixer = merge(params)
    padded = mixer(x, mask=jnp.array(mask), causal=True)
    return padded[:, 3:], mixer(x[:, 3:], causal=True)

  with jax.enable_x64(True):
    padded, alone = both(params, x)
  np.testing.assert_allclose(padded, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
  ("name", "options"), [("retnet", {"positions": "none"}), ("gated_linear", {})]
)
def test_masked_tokens_leave_the_memory(name, options):
  merge, params = shaken(name, use_bias=True, **options)
  x = normal(1, 1, T, C)
  seen = np.array([0, 3, 4, 8, 9, 10])
  mask = np.isin(np.arange(T), seen)[None]

  @jax.jit
  def both(params, x):
    mixer = merge(params)
    with_others = mixer(x, mask=jnp.array(mask), causal=True)
    return with_others[:, seen], mixer(x[:, seen], causal=True)

  with jax.enable_x64(True):
    with_others, alone = both(params, x)
  np.testing.assert_allclose(with_others, alone, rtol=1e-9, atol=1e-12)


def test_gated_delta_that_does_not_forget_is_delta():
  gated, params = shaken("gated_delta")
  params["log_rate"] = np.full(N, -np.inf)
  plain, _ = shaken("delta")

  @jax.jit
  def both(params, x):
    forgets = gated(params)(x, causal=True)
    for name in ("log_rate", "step_bias", "decay"):
      del params[name]
    return forgets, plain(params)(x, causal=True)

  with jax.enable_x64(True):
    found = both(params, normal(1, B, T, C))
  np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)
