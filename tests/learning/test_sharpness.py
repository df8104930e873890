"""Gradients of a worse place, against a quadratic's closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.learning.sharpness import ASAM, SAM

GENERATOR = np.random.default_rng(0)
# The loss is half of w' A w, and its gradient A w.
ROOT = GENERATOR.normal(size=(6, 6))
A = ROOT @ ROOT.T
W = GENERATOR.normal(size=6)


def params():
  kernel, bias = W[:4].reshape(2, 2), W[4:]
  return nnx.State(
    {
      "kernel": nnx.Param(jnp.asarray(kernel, jnp.float32)),
      "bias": nnx.Param(jnp.asarray(bias, jnp.float32)),
    }
  )


def flat(state):
  parts = state["kernel"][...].reshape(-1), state["bias"][...]
  return jnp.concatenate(parts)


def gradient_fn(params, batch):
  def loss(params):
    w = flat(params)
    value = batch["scale"] * w @ jnp.asarray(A, jnp.float32) @ w / 2
    return value, {"loss": value}

  return jax.grad(loss, has_aux=True)(params)


def found(technique, scale=1.0):
  gradients, told = jax.jit(technique.gradient(gradient_fn))(
    params(), {"scale": jnp.float32(scale)}
  )
  return flat(gradients), told


def test_sam_equals_the_closed_form():
  g = A @ W
  there = W + 0.3 * g / np.linalg.norm(g)
  gradients, told = found(SAM(0.3))
  np.testing.assert_allclose(gradients, A @ there, rtol=1e-4)
  # What is reported is of the weights in training.
  np.testing.assert_allclose(told["loss"], W @ A @ W / 2, rtol=1e-5)


def test_asam_equals_the_closed_form():
  g = A @ W
  t = np.where(np.arange(6) < 4, np.abs(W) + 0.1, 1.0)  # Biases come last.
  there = W + 0.3 * t**2 * g / np.linalg.norm(t * g)
  gradients, _ = found(ASAM(0.3, eta=0.1))
  np.testing.assert_allclose(gradients, A @ there, rtol=1e-4)


@pytest.mark.parametrize("technique", [SAM(0.0), ASAM(0.0)])
def test_off_is_absent(technique):
  assert technique.gradient(gradient_fn) is gradient_fn


@pytest.mark.parametrize("technique", [SAM(), ASAM()])
def test_without_a_gradient_there_is_no_uphill(technique):
  gradients, _ = found(technique, scale=0.0)
  chex.assert_trees_all_equal(gradients, jnp.zeros(6))


@pytest.mark.parametrize(
  ("technique", "arguments"),
  [(SAM, {"rho": -1.0}), (ASAM, {"rho": np.inf}), (ASAM, {"eta": -1.0})],
)
def test_refuses_the_impossible(technique, arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    technique(**arguments)
