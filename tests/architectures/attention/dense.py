"""Attention as it is defined, and how fast forms are held against it."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.architectures.attention import ATTENTION

B, N, C = 2, 2, 8
# What runs once, and on a few numbers, is quicker if nothing is optimized.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def draw(*shape, seed=0):
  return np.random.default_rng((seed, *shape)).normal(size=shape)


def with_gradient(function):
  """Returns the jitted function that also pulls its first argument back."""

  def run(cotangent, *inputs):
    out, pull = jax.vjp(function, *inputs)
    return out, pull(cotangent)

  return jit(run)


def made(name, *sizes, **options):
  """Returns a mixer's graph, and numbers for all its parameters."""

  def make():
    kinds = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
    return ATTENTION[name](C, N, *sizes, **kinds, **options)

  graph, state = nnx.split(nnx.eval_shape(make))
  generator = np.random.default_rng(0)
  return graph, jax.tree.map(
    lambda x: generator.normal(size=x.shape) / C**0.5, state
  )


def heads_for_all(x):
  """Key-value heads, repeated for the query heads that share them."""
  return x[:, :, [head * x.shape[2] // N for head in range(N)]]


def assert_same(function, reference, shape, *inputs):
  cotangent = draw(*shape, seed=9)
  found = with_gradient(function)(cotangent, *inputs)
  expected = with_gradient(reference)(cotangent, *inputs)
  chex.assert_tree_all_finite(found)
  chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-10)


def dense(query, key, value, visible, bias):
  """Attention as it is defined, all scores at once.

  Args:
    query: `B T N H`.
    key: `B S K H`.
    value: `B S K D`.
    visible: `B T S`, which pairs have a weight.
    bias: `N T S`, added to the scores.
  """
  heads, shared = query.shape[2], key.shape[2]
  owner = np.arange(heads) * shared // heads
  scores = jnp.einsum("btnh,bsnh->bnts", query, key[:, :, owner])
  weights = jnp.exp(scores / query.shape[-1] ** 0.5 + bias)
  weights = weights * visible[:, None]
  total = weights.sum(-1, keepdims=True)
  weights = weights / jnp.where(total > 0, total, 1)
  return jnp.einsum("bnts,bsnd->btnd", weights, value[:, :, owner])


def distances(slopes, length, seen):
  """The bias of ALiBi: minus slope times distance."""
  bias = np.zeros((len(slopes), length, seen))
  for n, slope in enumerate(slopes):
    for t in range(length):
      for s in range(seen):
        bias[n, t, s] = -slope * abs(t - s)
  return bias


def visible_pairs(length, seen, mask, causal):
  pairs = np.ones((B, length, seen))
  for b in range(B):
    for t in range(length):
      for s in range(seen):
        if (causal and s > t) or (mask is not None and not mask[b][s]):
          pairs[b, t, s] = 0
  return pairs


def holes(length):
  """A mask: the first sequence has holes, the second is all padding."""
  mask = np.ones((B, length), bool)
  # The first three: whoever is causal sees nothing there.
  mask[0, [0, 1, 2, 5, length - 1]] = False
  mask[1] = False
  return mask
