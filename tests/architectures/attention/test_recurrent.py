"""Memories that decay, against their recurrences token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effarch.architectures.attention import gated_linear
from effarch.architectures.attention.delta import delta_rule
from effarch.architectures.attention.gated_linear import gated_linear_attention
from effarch.architectures.attention.recurrence import linear_recurrence
from effarch.architectures.attention.retnet import retention
from tests.architectures.attention.twins import (
  check_twin,
  naive_delta,
  naive_gated,
  naive_linear,
  normal,
)

pytestmark = pytest.mark.usefixtures("small_chunks")

B, T, N, H, D = 2, 11, 4, 4, 3


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def parts(length=T, decay=None):
  """Queries, keys, values, a decay of that shape, and a memory."""
  query, key = normal(0, B, length, N, H), normal(1, B, length, N, H)
  value, memory = normal(2, B, length, N, D), normal(3, B, N, H, D)
  if decay is None:
    return query, key, value, memory
  return query, key, value, -np.exp(normal(4, *decay)), memory


@pytest.mark.parametrize("length", [3, 7, 8, T])
def test_linear_recurrence(length):
  arguments = parts(length, (B, length, N))
  check_twin(linear_recurrence, naive_linear, arguments)


def test_linear_recurrence_that_does_not_decay():
  check_twin(linear_recurrence, naive_linear, parts()[:3])


def test_linear_recurrence_that_forgets_at_once():
  # Products of decays, or their inverses, would leave the range of numbers.
  arguments = parts(T, (B, T, N))
  arguments[3][:, ::3] *= 300
  check_twin(linear_recurrence, naive_linear, arguments)


PARTS = parts(T, (B, T, N))
STRENGTH = 1 / (1 + np.exp(-normal(5, B, T, N)))
FUNCTIONS = {
  "retention": (retention, PARTS),
  "gated_linear": (gated_linear_attention, parts(T, (B, T, N, H))),
  "delta": (
    delta_rule,
    (PARTS[0], unit(PARTS[1]), PARTS[2], STRENGTH, *PARTS[3:]),
  ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_memory_is_handed_over(name):
  function, (*tokens, memory) = FUNCTIONS[name]

  @jax.jit
  def both(tokens, memory):
    first, between = function(*[x[:, :5] for x in tokens], memory)
    second, last = function(*[x[:, 5:] for x in tokens], between)
    split = jnp.concatenate([first, second], axis=1), last
    return function(*tokens, memory), split

  with jax.enable_x64(True):
    whole, split = both([jnp.array(x) for x in tokens], jnp.array(memory))
  for one, other in zip(whole, split, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_retention_in_parallel():
  query, key, value, _ = parts()
  decay = np.array([1, 0.9, 0.5, 0.1])

  def fast(query, key, value):
    log_decay = jnp.broadcast_to(jnp.log(decay), (B, T, N))
    return retention(query, key, value, log_decay)[:1]

  def naive(query, key, value):
    # (Q K^T / sqrt(H) * D) V of the paper, D_ts = decay^(t - s).
    apart = np.arange(T)[:, None] - np.arange(T)
    faded = np.where(apart < 0, 0, decay[:, None, None] ** np.maximum(apart, 0))
    scores = np.einsum("btnh,bsnh->bnts", query, key) / H**0.5
    return (np.einsum("bnts,bsnd->btnd", scores * faded, value),)

  check_twin(fast, naive, (query, key, value))


@pytest.mark.parametrize("function", [linear_recurrence, delta_rule])
def test_slopes_where_nothing_decays(function):
  query, key, value, memory = parts()
  arguments = query, unit(key), value
  if function is delta_rule:
    arguments = *arguments, STRENGTH
  naive = {linear_recurrence: naive_linear, delta_rule: naive_delta}[function]
  # The greatest that a decay may be: a bound must not share the slope with it.
  check_twin(function, naive, (*arguments, np.zeros((B, T, N)), memory))


def test_retention_without_decay_is_linear_attention():
  query, key, value, _ = parts()
  with jax.enable_x64(True):
    out, _ = jax.jit(retention)(
      *map(jnp.array, (query, key, value, np.zeros((B, T, N))))
    )
  scores = np.einsum("btnh,bsnh->bnts", query, key) / H**0.5
  np.testing.assert_allclose(
    out, np.einsum("bnts,bsnd->btnd", np.tril(scores), value), rtol=1e-9
  )


def test_gated_linear_attention():
  check_twin(gated_linear_attention, naive_gated, parts(T, (B, T, N, H)))


def test_gates_below_the_least_count_as_it():
  *heads, log_decay, memory = parts(T, (B, T, N, H))
  log_decay = 5 * log_decay
  assert 0.2 < (log_decay < -5).mean() < 0.8
  check_twin(gated_linear_attention, naive_gated, (*heads, log_decay, memory))


def test_strong_gates_in_float32(monkeypatch):
  # More than a chunk as it is in use: it divides by exp(-5 * 16).
  monkeypatch.setattr(gated_linear, "CHUNK", 16)
  length = 24
  *heads, memory = parts(length)
  log_decay = -5 + 0.1 * abs(normal(4, B, length, N, H))
  arguments = *heads, log_decay, memory

  @jax.jit
  def both(arguments):
    out, pull = jax.vjp(lambda a: gated_linear_attention(*a), arguments)
    return out, pull(out)[0]

  out, slopes = both([jnp.array(x, jnp.float32) for x in arguments])
  wanted = naive_gated(*arguments)
  for one, other in zip(out, wanted, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
  direction = normal(5, *log_decay.shape)

  def along(step):
    # Half of the sum of squares, which `pull(out)` is the slope of.
    moved = *heads, log_decay + step * direction, memory
    return sum((x**2).sum() / 2 for x in naive_gated(*moved))

  slope = (along(1e-5) - along(-1e-5)) / 2e-5
  np.testing.assert_allclose(np.vdot(slopes[3], direction), slope, rtol=1e-3)
  assert all(np.isfinite(x).all() for x in slopes)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("decays", [False, True])
def test_delta_rule(decays, repeated):
  *tokens, log_decay, memory = FUNCTIONS["delta"][1]
  if repeated:
    # All tokens but two write to one place.
    tokens[1] = tokens[1].copy()
    tokens[1][:, 2:] = tokens[1][:, 2:3]
  if decays:
    check_twin(delta_rule, naive_delta, (*tokens, log_decay, memory))
  else:
    check_twin(delta_rule, naive_delta, tokens)


def test_delta_rule_recalls_and_overwrites():
  # Eight orthonormal keys, of which the first three are written once more.
  size = 8
  keys = np.linalg.qr(normal(0, size, size))[0]
  places = [*range(size), 0, 1, 2]
  value = normal(1, len(places), D)
  key = keys[places][None, :, None]
  with jax.enable_x64(True):
    out, memory = jax.jit(delta_rule)(
      *(jnp.array(key), jnp.array(key), jnp.array(value[None, :, None])),
      jnp.ones((1, len(places), 1)),
    )
  out, memory = np.asarray(out), np.asarray(memory)
  np.testing.assert_allclose(out[0, :, 0] * size**0.5, value, atol=1e-12)
  newest = np.concatenate([value[size:], value[3:size]])
  np.testing.assert_allclose(keys @ memory[0, 0], newest, atol=1e-12)
