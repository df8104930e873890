"""What all token mixers have in common: one call, and what each supports.

Axes: `B` batch, `T` tokens, `S` tokens that are seen, `C` channels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import nnx
from jaxtyping import Array, Bool, Float


@dataclasses.dataclass(frozen=True)
class Supports:
  """What a mixer can do, as data; to ask for more is an error.

  Args:
    bidirectional: every token may see all.
    causal: no token sees those after it.
    cross: tokens see those of a context in place of their own.
    mask: tokens that are padding are not seen.
    streaming: one token at a time, by `init_state` and `step`.
    constant_state: what streaming keeps does not grow with the tokens.
    growth: the power of `T` that MACs grow with, once they outweigh the
      projections; with what the docstring says on sizes that grow with it.
  """

  bidirectional: bool = True
  causal: bool = True
  cross: bool = False
  mask: bool = True
  streaming: bool = True
  constant_state: bool = False
  growth: float = 1.0


class Drawn(nnx.Variable):
  """Numbers that are drawn once, with the parameters, and not trained."""


class Mixer(nnx.Module):
  """Mixes tokens, `B T C` to `B T C`; each mechanism overrides `mix`."""

  supports: Supports
  # What the argument `positions` may be, where a mixer has one.
  position_kinds: tuple[str, ...] = ()

  def __call__(
    self,
    x: Float[Array, "B T C"],
    *,
    context: Float[Array, "B S C"] | None = None,
    mask: Bool[Array, "B M"] | None = None,
    causal: bool = False,
  ) -> Float[Array, "B T C"]:
    """Returns the mixed tokens.

    Args:
      x: the tokens that see.
      context: the tokens that are seen; `x`, if None.
      mask: of the tokens that are seen, true where they are no padding. What a
        token of padding itself becomes is finite, and means nothing.
      causal: token `t` sees the tokens `0 ... t` alone.

    Raises:
      ValueError: the mixer does not support what is asked for.
    """
    asked = {
      "bidirectional": not causal,
      "causal": causal,
      "cross": context is not None,
      "mask": mask is not None,
    }
    for name, wanted in asked.items():
      if wanted and not getattr(self.supports, name):
        hint = {"bidirectional": "; call it with causal=True"}.get(name, "")
        raise ValueError(f"{type(self).__name__} does not support {name}{hint}")
    if causal and context is not None:
      raise ValueError("causal: tokens of a context have no place among x")
    return self.mix(x, context, mask, causal)

  def mix(
    self,
    x: Float[Array, "B T C"],
    context: Float[Array, "B S C"] | None,
    mask: Bool[Array, "B M"] | None,
    causal: bool,
  ) -> Float[Array, "B T C"]:
    """Does what `__call__` says; all that is asked for is supported."""
    raise NotImplementedError

  def init_state(self, batch_size: int, max_length: int) -> Any:
    """Returns the state before the first token of a causal stream.

    Args:
      batch_size: `B`.
      max_length: as many tokens come at most.

    Raises:
      ValueError: the mixer does not support streaming.
    """
    raise ValueError(f"{type(self).__name__} does not support streaming")

  def step(
    self, x: Float[Array, "B C"], state: Any
  ) -> tuple[Float[Array, "B C"], Any]:
    """Returns what the next token becomes, and the state after it."""
    raise ValueError(f"{type(self).__name__} does not support streaming")


def check_length(length: int, max_length: int) -> None:
  """Refuses more tokens than there are parameters for.

  Raises:
    ValueError: there are more.
  """
  if length > max_length:
    raise ValueError(
      f"max_length: {length} tokens come, and it is {max_length}"
    )
