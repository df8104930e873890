"""How often a `while_loop` turns, where constants alone decide."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval

# A function that returns an array; None for one that is not known.
Content = Callable[[], Any] | None


def known_turns(
  params: dict[str, Any], inputs: Sequence[Content]
) -> int | None:
  """Runs what decides when a loop ends; None if that is not known.

  That is of the carry what the condition reads, and what makes it.

  Args:
    params: of the `while` primitive.
    inputs: the condition's constants, the body's, and the first carry.
  """
  condition, body = params["cond_jaxpr"], params["body_jaxpr"]
  asks, does = params["cond_nconsts"], params["body_nconsts"]
  _, used = partial_eval.dce_jaxpr(condition.jaxpr, [True])
  asked, kept = used[:asks], used[asks:]
  while True:
    _, used = partial_eval.dce_jaxpr(body.jaxpr, kept)
    more = [a or b for a, b in zip(kept, used[does:], strict=True)]
    if more == kept:
      break
    kept = more
  needed = [*asked, *used[:does], *kept]
  contents = list(itertools.compress(inputs, needed))
  arrays = [content() for content in contents if content]
  if len(arrays) < len(contents):
    return None
  ask = _part(condition, [True], [*asked, *kept])
  turn = _part(body, kept, [*used[:does], *kept])
  of_ask, of_turn = sum(asked), sum(asked) + sum(used[:does])
  number, *_ = jax.lax.while_loop(
    lambda now: ask(*arrays[:of_ask], *now[1:])[0],
    lambda now: (now[0] + 1, *turn(*arrays[of_ask:of_turn], *now[1:])),
    (0, *arrays[of_turn:]),
  )
  return int(number)


def _part(
  jaxpr: core.ClosedJaxpr, outputs: list[bool], inputs: list[bool]
) -> Callable[..., list[Any]]:
  """Returns a function from some of a jaxpr's inputs to some outputs."""
  lean, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, outputs, instantiate=inputs)
  return core.jaxpr_as_fun(core.ClosedJaxpr(lean, jaxpr.consts))
