"""Activations by name."""

from collections.abc import Callable

import jax

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "identity": lambda x: x,
  "relu": jax.nn.relu,
  "relu6": jax.nn.relu6,
  "silu": jax.nn.silu,
  "gelu": jax.nn.gelu,
  "hard_swish": jax.nn.hard_swish,
  "hard_sigmoid": jax.nn.hard_sigmoid,
  "sigmoid": jax.nn.sigmoid,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
  """Returns the function of this name.

  Raises:
    ValueError: there is none.
  """
  if name not in ACTIVATIONS:
    raise ValueError(
      f"activation: {name!r} is none of {', '.join(ACTIVATIONS)}"
    )
  return ACTIVATIONS[name]
