"""How mixers are held against slow twins, and what twins are made of."""

import jax
import numpy as np


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


def check_twin(fast, naive, arguments):
  """Compares outputs, and slopes along a random direction of each array.

  Args:
    fast: a function of JAX, compiled in float64.
    naive: the same in NumPy; its slopes are differences.
    arguments: of both, trees of float64 arrays.
  """
  wanted, outs = jax.tree.flatten(naive(*arguments))
  weights = [normal(100 + i, *x.shape) for i, x in enumerate(wanted)]

  @jax.jit
  def both(arguments):
    out, pull = jax.vjp(lambda a: fast(*a), arguments)
    return out, pull(outs.unflatten(weights))[0]

  with jax.enable_x64(True):
    found, slopes = both(arguments)
  for one, other in zip(jax.tree.leaves(found), wanted, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
  leaves, tree = jax.tree.flatten(arguments)
  for place, slope in enumerate(jax.tree.leaves(slopes)):
    direction = normal(place, *slope.shape)

    def along(step, place=place, direction=direction):
      moved = list(leaves)
      moved[place] = moved[place] + step * direction
      out = jax.tree.leaves(naive(*tree.unflatten(moved)))
      return sum(np.vdot(w, x) for w, x in zip(weights, out, strict=True))

    near, far = (along(h) - along(-h) for h in (1e-5, 2e-5))
    difference = (8 * near - far) / 12e-5
    np.testing.assert_allclose(
      np.vdot(slope, direction), difference, rtol=1e-6, atol=1e-6
    )


def read(query, memory):
  return np.einsum("bnh,bnhd->bnd", query, memory)


def naive_linear(query, key, value, log_decay=None, memory=0.0):
  out = []
  for t in range(query.shape[1]):
    if log_decay is not None:
      memory = memory * np.exp(log_decay[:, t])[..., None, None]
    memory = memory + key[:, t, :, :, None] * value[:, t, :, None]
    out.append(read(query[:, t], memory))
  return np.stack(out, 1), memory


def naive_gated(query, key, value, log_decay, memory=0.0):
  out = []
  for t in range(query.shape[1]):
    decay = np.exp(np.maximum(log_decay[:, t], -5))
    memory = memory * decay[..., None]
    memory = memory + key[:, t, :, :, None] * value[:, t, :, None]
    out.append(read(query[:, t] / query.shape[-1] ** 0.5, memory))
  return np.stack(out, 1), memory


def naive_delta(query, key, value, strength, log_decay=None, memory=None):
  if memory is None:
    memory = np.zeros((len(key), *key.shape[2:], value.shape[-1]))
  out = []
  for t in range(query.shape[1]):
    if log_decay is not None:
      memory = memory * np.exp(log_decay[:, t])[..., None, None]
    wrong = value[:, t] - read(key[:, t], memory)
    written = strength[:, t, :, None] * wrong
    memory = memory + key[:, t, :, :, None] * written[:, :, None]
    out.append(read(query[:, t] / query.shape[-1] ** 0.5, memory))
  return np.stack(out, 1), memory


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def silu(x):
  return x * sigmoid(x)


def softplus(x):
  return np.log1p(np.exp(x))


def gelu(x):
  # By the hyperbolic tangent.
  return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def linear(params, x):
  return x @ params["kernel"] + params.get("bias", 0)


def rms_norm(params, x):
  return params["scale"] * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def convolve(kernel, x):
  """Each channel by NumPy, the last row of the kernel for the token itself."""
  out = np.zeros_like(x)
  for b, c in np.ndindex(len(x), x.shape[2]):
    out[b, :, c] = np.convolve(x[b, :, c], kernel[::-1, c])[: x.shape[1]]
  return out


def shown(x, mask):
  return x if mask is None else np.where(mask[:, :, None], x, 0)
