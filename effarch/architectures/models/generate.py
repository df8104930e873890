"""Tokens from a decoder, one after another."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int, Key

from effarch.architectures.models.transformer import Decoder


def generate(
  model: Decoder,
  prompt: Int[Array, "B P"],
  length: int,
  *,
  temperature: float = 0.0,
  rng: Key[Array, ""] | None = None,
) -> Int[Array, "B T"]:
  """Returns the `length` tokens that follow a prompt.

  The prompt goes through the stream's state like what follows, so that the
  memory is that of the state alone.

  Args:
    model: taken as it is in evaluation mode.
    prompt: at least one token.
    length: `T`.
    temperature: logits are divided by it and a token is drawn; 0 takes the
      likeliest.
    rng: draws, where the temperature is not 0.

  Raises:
    ValueError: the prompt is empty, the temperature negative or without `rng`,
      a mixer does not stream, or there are more tokens than learned places.
  """
  if not prompt.shape[1]:
    raise ValueError("prompt: is empty")
  if length < 1:
    raise ValueError(f"length: {length} is not positive")
  if temperature < 0:
    raise ValueError(f"temperature: {temperature} is negative")
  if temperature and rng is None:
    raise ValueError("rng: is needed to draw tokens")
  graphdef, state = nnx.split(model)
  rng = jax.random.key(0) if rng is None else rng
  return _generate(graphdef, length, state, prompt, temperature, rng)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate(graphdef, length, state, prompt, temperature, rng):
  model = nnx.merge(graphdef, state)
  model.eval()
  batch, given = prompt.shape
  total = given + length - 1
  prompt = prompt.astype(jnp.int32)

  def turn(carry, place):
    stream, last = carry
    asked = prompt[:, jnp.minimum(place, given - 1)]
    token = jnp.where(place < given, asked, last)
    logits, stream = model.step(token, stream)
    drawn = jax.random.categorical(
      jax.random.fold_in(rng, place), logits / jnp.maximum(temperature, 1e-6)
    )
    token = jnp.where(temperature > 0, drawn, logits.argmax(-1))
    token = token.astype(jnp.int32)
    return (stream, token), token

  start = (model.init_state(batch, total), prompt[:, 0])
  _, tokens = jax.lax.scan(turn, start, jnp.arange(total))
  return tokens[given - 1 :].T
