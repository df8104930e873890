"""State spaces and long convolutions against recurrences and plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.long_convolution import long_convolution
from effarch.architectures.attention.s4d import diagonal_filter
from effarch.architectures.attention.s5 import diagonal_scan, normal_hippo
from effarch.architectures.attention.short_convolution import ShortConvolution
from tests.architectures.attention.twins import (
  check_twin,
  convolve,
  gelu,
  linear,
  normal,
  rms_norm,
  shown,
  sigmoid,
  silu,
  softplus,
)

pytestmark = pytest.mark.usefixtures("small_chunks")

B, T, C, N = 2, 11, 8, 4


def naive_mamba2(params, x, mask):
  x = shown(x, mask)
  inner, states = 2 * C, 3
  projected = linear(params["project"], x)
  gate, mixed, size = np.split(projected, [inner, 2 * inner + 2 * states], -1)
  mixed = silu(convolve(params["convolution"]["kernel"], mixed))
  values = mixed[..., :inner].reshape(B, T, N, -1)
  write, reader = np.split(mixed[..., inner:], 2, axis=-1)
  size = softplus(size + params["step_bias"])
  rate = -np.exp(params["log_rate"])
  memory, out = np.zeros((B, N, states, inner // N)), np.zeros_like(values)
  for b, t, n in np.ndindex(B, T, N):
    if mask is None or mask[b, t]:
      step = size[b, t, n]
      memory[b, n] = np.exp(step * rate[n]) * memory[b, n] + step * np.outer(
        write[b, t], values[b, t, n]
      )
    out[b, t, n] = reader[b, t] @ memory[b, n]
    out[b, t, n] += params["skip"][n] * values[b, t, n]
  out = rms_norm(params["norm"], out.reshape(B, T, inner) * silu(gate))
  return (linear(params["out"], out),)


def rates_of(params):
  rates = -np.exp(params["log_decay"]) + 1j * params["frequency"]
  return rates, np.exp(params["log_step"])


def naive_s4d(params, x, mask, causal=True):
  x = shown(x, mask)
  rates, size = rates_of(params)
  size = size[:, None]
  readers = params["read"][:, 0] + 1j * params["read"][:, 1]
  found = params["skip"] * x
  for backwards in range(1 if causal else 2):
    state = np.zeros((B, *rates.shape))
    for t in range(T)[:: -1 if backwards else 1]:
      # What comes later, without the token itself.
      if backwards:
        found[:, t] += 2 * (readers[1] * state).sum(-1).real
      state = np.exp(size * rates) * state
      state = state + (np.exp(size * rates) - 1) / rates * x[:, t, :, None]
      if not backwards:
        found[:, t] += 2 * (readers[0] * state).sum(-1).real
  value, gate = np.split(linear(params["out"], gelu(found)), 2, axis=-1)
  return (value * sigmoid(gate),)


def naive_s5(params, x, mask, causal=True):
  x = shown(x, mask)
  rates, size = rates_of(params)
  write = params["write"][0] + 1j * params["write"][1]
  readers = params["read"][0] + 1j * params["read"][1]
  found = params["skip"] * x
  for backwards in range(1 if causal else 2):
    state = np.zeros((B, len(rates)))
    for t in range(T)[:: -1 if backwards else 1]:
      held = (np.exp(size * rates) - 1) / rates
      state = np.exp(size * rates) * state + held * (x[:, t] @ write)
      found[:, t] += 2 * (state @ readers[backwards]).real
  found = gelu(found)
  return (found * sigmoid(linear(params["gate"], found)),)


def naive_hyena(params, x, mask):
  x = shown(x, mask)
  projected = shown(linear(params["project"], x), mask)
  short = shown(convolve(params["short"]["kernel"], projected), mask)
  z, *gates = np.split(short, 3, axis=-1)
  place = np.arange(T)[:, None] / 16
  turns = 2 * np.pi * place * np.array([1, 2])
  code = np.concatenate([place, np.cos(turns), np.sin(turns)], axis=-1)
  for layer in ("encode", "hidden"):
    code = np.sin(10 * linear(params[layer], code))
  filters = (code @ params["make"]["kernel"]).reshape(T, 2, C)
  # At the end, windows have decayed to these.
  last = np.exp(
    np.linspace(np.log(0.01 ** (10 / 3)), np.log(0.01 ** (2 / 3)), C)
  )
  filters = filters * last[None, None] ** place[:, :, None]
  for i, gate in enumerate(gates):
    long = np.zeros_like(z)
    for t in range(T):
      for s in range(t + 1):
        long[:, t] += filters[t - s, i] * z[:, s]
    z = gate * (long + params["skip"][i] * z)
  return (linear(params["out"], z),)


MODULES = {
  "mamba2": ({"num_heads": N, "state_dim": 3}, naive_mamba2),
  "s4d": ({"state_dim": 6}, naive_s4d),
  "s5": ({"state_dim": 6}, naive_s5),
  "hyena": (
    {"max_length": 16, "num_frequencies": 2, "filter_features": 5},
    naive_hyena,
  ),
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


@pytest.mark.parametrize("name", ["s4d", "s5"])
def test_bidirectional_modules(name):
  merge, params = shaken(name, bidirectional=True)
  check_twin(
    lambda params, x: (merge(params)(x),),
    lambda params, x: MODULES[name][1](params, x, None, causal=False),
    (params, normal(1, B, T, C)),
  )


@pytest.mark.parametrize("name", MODULES)
def test_padding_in_front_is_as_if_not_there(name):
  merge, params = shaken(name)
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


@pytest.mark.parametrize("length", [1, 11, 16])
def test_diagonal_filter(length):
  # Real and imaginary parts apart, as slopes are of real numbers.
  arguments = [normal(i, C, 3) / 4 for i in range(4)]
  arguments[0] = -abs(arguments[0])

  def fast(*x):
    exponents, weights = jax.lax.complex(*x[:2]), jax.lax.complex(*x[2:])
    return (diagonal_filter(exponents, weights, length),)

  def naive(*x):
    exponents, weights = x[0] + 1j * x[1], x[2] + 1j * x[3]
    return (
      np.stack(
        [
          2 * (weights * np.exp(t * exponents)).sum(-1).real
          for t in range(length)
        ]
      ),
    )

  check_twin(fast, naive, arguments)


def test_diagonal_scan():
  arguments = [normal(i, *([B, T] if i > 1 else []), 3) / 2 for i in range(4)]

  def fast(*x):
    decay, inputs = jax.lax.complex(*x[:2]), jax.lax.complex(*x[2:])
    states = diagonal_scan(decay, inputs)
    return states.real, states.imag

  def naive(*x):
    decay, inputs = x[0] + 1j * x[1], x[2] + 1j * x[3]
    states = [inputs[:, 0]]
    for t in range(1, T):
      states.append(decay * states[-1] + inputs[:, t])
    states = np.stack(states, axis=1)
    return states.real, states.imag

  check_twin(fast, naive, arguments)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_normal_hippo(size):
  # HiPPO-LegS, an element at a time, and the rank one that makes it normal.
  matrix = np.zeros((size, size))
  for n, k in np.ndindex(size, size):
    if n > k:
      matrix[n, k] = -(((2 * n + 1) * (2 * k + 1)) ** 0.5)
    elif n == k:
      matrix[n, k] = -(n + 1)
  low_rank = (np.arange(size) + 0.5) ** 0.5
  matrix = matrix + np.outer(low_rank, low_rank)
  values, vectors = normal_hippo(size)
  assert values.shape == (size // 2,)
  np.testing.assert_allclose(values.real, -0.5)
  assert (values.imag > 0).all()
  np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-9)
  # With their conjugates they are all of them, and of length one.
  both = np.concatenate([vectors, vectors.conj()], axis=1)
  np.testing.assert_allclose(both.conj().T @ both, np.eye(size), atol=1e-9)


@pytest.mark.parametrize("name", ["gated_delta", "mamba2", "s4d", "s5"])
def test_first_step_sizes(name):
  # Wide, so that both ends of the range are nearly met.
  arguments = dict(MODULES.get(name, [{}])[0])
  if name == "s5":
    arguments["state_dim"] = 128
  elif name != "s4d":
    arguments["num_heads"] = 64
  features = C if name == "s5" else 64

  @jax.jit
  def draw():
    mixer = ATTENTION[name](features, **arguments, rngs=nnx.Rngs(0))
    return nnx.state(mixer, nnx.Param)

  state = draw()
  if "log_step" in state:
    size = np.exp(state["log_step"][...])
  else:
    size = np.log1p(np.exp(state["step_bias"][...]))
    rate = np.exp(state["log_rate"][...])
    assert 1 <= rate.min() < 2 and 15 < rate.max() <= 16
  assert len(size) == 64
  assert 0.00099 < size.min() < 0.0015 and 0.07 < size.max() < 0.1001
  # Uniform in its logarithm: a half is below the geometric mean.
  assert 20 < (size < 0.01).sum() < 44
  if name == "s4d":
    np.testing.assert_allclose(np.exp(state["log_decay"][...]), 0.5, rtol=1e-6)
    wanted = np.broadcast_to(np.pi * np.arange(3), (64, 3))
    np.testing.assert_allclose(state["frequency"][...], wanted, rtol=1e-6)


def test_long_convolution():
  def naive(x, kernel):
    return (convolve(kernel[::-1], x),)

  arguments = normal(0, B, T, C), normal(1, T, C)
  check_twin(lambda *a: (long_convolution(*a),), naive, arguments)


def test_short_convolution():
  with jax.enable_x64(True):
    layer = ShortConvolution(C, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
  graph = nnx.graphdef(layer)

  def fast(kernel, x):
    layer = nnx.merge(graph, nnx.State({"kernel": kernel}))
    # In three parts, of which the first is shorter than what is kept.
    out, past = [], None
    for part in (x[:, :2], x[:, 2:3], x[:, 3:]):
      found, past = layer(part, past)
      out.append(found)
    return layer(x)[0], jnp.concatenate(out, axis=1), past

  def naive(kernel, x):
    found = convolve(kernel, x)
    return found, found, x[:, -3:]

  check_twin(fast, naive, (normal(0, 4, C), normal(1, B, T, C)))
