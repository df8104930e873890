"""Turns of `while_loop`, where constants tell them and where they are told."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effarch.infrastructure.cost import count

SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)


def square(x):
  return x @ x


def work(function, *args, **kwargs):
  """MACs and FLOPs of what the counter knows entirely."""
  found = count(function, *args, **kwargs)
  assert not found.unknown
  return found.macs, found.flops


def scanned(length, body=square):
  def loop(x):
    return jax.lax.scan(lambda c, _: (body(c), None), x, length=length)[0]

  return loop


def macs(function, *args, **kwargs):
  return work(function, *args, **kwargs)[0]


def test_loop_without_known_length_is_refused():
  def until(x):
    return jax.lax.while_loop(lambda c: c.sum() < 3, square, x)

  with pytest.raises(ValueError, match=r"while_loop.*lax\.scan.*constant"):
    count(scanned(2, jax.jit(until)), SQUARE)
  with pytest.raises(ValueError, match="while_loop"):
    count(
      lambda n, x: jax.lax.fori_loop(0, n, lambda _, c: c @ c, x), 3, SQUARE
    )


@given(st.integers(0, 9), st.integers(1, 3), st.integers(0, 20))
def test_while_loop_that_constants_end(start, step, end):
  def loop(x):
    def turn(carry):
      count, x, unused = carry
      return count + step, x @ x, unused + x

    return jax.lax.while_loop(lambda c: c[0] < end, turn, (start, x, x))

  turns = max(0, math.ceil((end - start) / step))
  # A comparison more than turns, free; in each an addition of the counter and
  # one of each element.
  assert work(loop, SQUARE) == (64 * turns, (128 + 1 + 16) * turns)


def test_while_loop_that_ends_by_a_chain_of_its_carry():
  # The condition reads what another part of the carry makes in the turn
  # before, and a constant that the loop holds.
  limit = np.array([100.0, 3.0])

  def loop(x):
    def turn(carry):
      power, total, x = carry
      return power * 2, total + power, x @ x

    def more(carry):
      return carry[1] < jnp.asarray(limit)[0]

    return jax.lax.while_loop(more, turn, (1.0, 0.0, x))

  # 1 + 2 + 4 + ... passes 100 with the seventh.
  assert macs(loop, SQUARE) == 64 * 7


def test_while_turns_are_told_for_loops_that_no_constant_ends():
  def until(x):
    return jax.lax.while_loop(lambda c: c.sum() < 3, square, x)

  def both(x):
    return jax.lax.fori_loop(0, 5, lambda _, c: until(c), x)

  # A loop's condition is asked once more than it turns.
  assert work(until, SQUARE, while_turns=3) == (192, 3 * 128 + 4 * 16)
  assert macs(both, SQUARE, while_turns=3) == 64 * 15
  assert work(until, SQUARE, while_turns=0) == (0, 16)


def test_while_turns_do_not_overrule_what_is_known():
  def loop(x):
    return jax.lax.while_loop(
      lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] @ c[1]), (0, x)
    )

  assert macs(loop, SQUARE, while_turns=9) == 4 * 64


def test_while_loop_whose_end_depends_on_a_chain_of_parts():
  # The condition reads c, c is made of b, b of a, each a turn later.
  def turn(carry):
    a, b, _, x = carry
    return a + 1, a, b, x @ x

  def loop(x):
    return jax.lax.while_loop(lambda c: c[2] < 5, turn, (0, 0, 0, x))

  assert macs(loop, SQUARE) == 7 * 64


def test_while_loop_with_constants_of_condition_and_body():
  ends, steps = jnp.arange(10.0), jnp.arange(5.0)

  def loop(x):
    def turn(carry):
      number, x, total = carry
      return number + steps[2] * steps[1], x @ x, total + x[0, 0]

    def more(carry):
      return (carry[0] < ends[7]) & (ends[1] > 0)

    return jax.lax.while_loop(more, turn, (0.0, x, x[0, 0]))

  # 0, 2, 4 and 6 are below seven.
  assert macs(loop, SQUARE) == 4 * 64


def test_condition_that_also_reads_an_input_is_not_known():
  def loop(x):
    return jax.lax.while_loop(
      lambda c: (c[0] < 5) & (x.sum() > 0),
      lambda c: (c[0] + 1, c[1] @ c[1]),
      (0, x),
    )

  with pytest.raises(ValueError, match="while_loop"):
    count(loop, SQUARE)
