"""Every mixer of the table passes the exam, and mutants fail it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from benchmarks.mixers import CASES
from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.full import FullAttention
from effarch.architectures.attention.linear import LinearAttention
from effarch.architectures.attention.sizes import Size, make
from effarch.config import build
from effarch.errors import UserError
from effarch.infrastructure.cost import measure
from effarch.testing import check_attention, check_growth

SIZE = Size(t=64, c=16, n=2, w=16, b=2)
X = jax.random.normal(jax.random.key(0), (SIZE.b, SIZE.t, SIZE.c))


def test_the_table_has_a_case_for_each():
  assert list(CASES) == list(ATTENTION)


@pytest.mark.parametrize("name", CASES)
def test_exam(name):
  case = CASES[name]
  check_attention(
    lambda length, **kinds: make(
      name, dataclasses.replace(SIZE, t=length), **kinds
    ),
    X,
    params=case.params(SIZE),
    macs=lambda causal: case.macs(SIZE, causal),
  )


@pytest.mark.parametrize("name", CASES)
def test_growth(name):
  # Few channels, so that projections do not hide what grows.
  small = Size(t=0, c=4, n=1, w=16)
  check_growth(
    lambda length: make(name, dataclasses.replace(small, t=length)), small.c
  )


@pytest.mark.parametrize("name", CASES)
def test_formulas_at_the_lengths_of_the_benchmark(name):
  """Chunks, stages and rounding up are in the formulas too."""
  size = Size(t=4096)
  mixer = nnx.eval_shape(lambda: make(name, size))
  x = jax.ShapeDtypeStruct((1, size.t, size.c), jnp.float32)
  for causal in (False, True):
    supports = mixer.supports
    if supports.causal if causal else supports.bidirectional:
      cost = measure(functools.partial(mixer, causal=causal), x)
      assert cost.macs == CASES[name].macs(size, causal)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_bfloat16_are_finite_at_length_4096(name):
  size = Size(t=4096, c=8, n=1, w=64)
  mixer = make(name, size, dtype=jnp.bfloat16)
  graphdef, params, rest = nnx.split(mixer, nnx.Param, ...)
  x = jax.random.normal(jax.random.key(1), (1, size.t, size.c), jnp.bfloat16)

  def squares(params, x):
    model = nnx.merge(graphdef, params, rest, copy=True)
    out = model(x, causal=not mixer.supports.bidirectional)
    return jnp.square(out.astype(jnp.float32)).mean()

  found = jax.jit(jax.value_and_grad(squares, (0, 1)))(params, x)
  for leaf in jax.tree.leaves(found):
    assert bool(jnp.isfinite(leaf).all())


class Leaking(FullAttention):
  """A mutant: causal is forgotten."""

  def attend(self, query, key, value, mask, causal):
    return super().attend(query, key, value, mask, False)


class Staring(FullAttention):
  """A mutant: padding is seen."""

  def attend(self, query, key, value, mask, causal):
    return super().attend(query, key, value, None, causal)


class Forgetful(LinearAttention):
  """A mutant: the stream's memory fades."""

  def step(self, x, state):
    out, state = super().step(x, state)
    return out, {**state, "memory": state["memory"] * 0.9}


class Boastful(FullAttention):
  """A mutant: its cache is no constant state."""

  supports = dataclasses.replace(FullAttention.supports, constant_state=True)


class Modest(FullAttention):
  """A mutant: does what it says it does not."""

  supports = dataclasses.replace(FullAttention.supports, cross=False)

  def __call__(self, x, **options):
    options.pop("context", None)
    return super().__call__(x, **options)


class Absent(FullAttention):
  """A mutant: the context is not looked at."""

  def mix(self, x, context, mask, causal):
    if context is not None:
      context = jnp.zeros_like(context)
    return super().mix(x, context, mask, causal)


class Idle(FullAttention):
  """A mutant: a parameter that nothing uses."""

  def __init__(self, features, num_heads, **arguments):
    super().__init__(features, num_heads, **arguments)
    self.extra = nnx.Param(jnp.zeros(3))


class Mixing(FullAttention):
  """A mutant: sequences of a batch see each other."""

  def mix(self, x, context, mask, causal):
    return super().mix(x, context, mask, causal) + x.mean(0)


class Widening(FullAttention):
  """A mutant: computes in float32 whatever it is told."""

  def mix(self, x, context, mask, causal):
    out = super().mix(x, context, mask, causal)
    return out.astype(jnp.float32)


@pytest.mark.parametrize(
  ("mutant", "message"),
  [
    (Leaking, "not almost equal|not close|Values"),
    (Staring, None),
    (Forgetful, None),
    (Boastful, "states of"),
    (Modest, "cross is not supported, and not refused"),
    (Absent, None),
    (Idle, "gets no gradient"),
    (Mixing, None),
    (Widening, "bfloat16 gives float32"),
  ],
)
def test_exam_fails_mutants(mutant, message):
  case = CASES["full"]
  with pytest.raises(AssertionError, match=message):
    check_attention(
      lambda length, **kinds: mutant(SIZE.c, SIZE.n, **kinds),
      X,
      params=case.params(SIZE),
      macs=lambda causal: case.macs(SIZE, causal),
    )


@pytest.mark.parametrize(
  ("params", "factor", "message"),
  [(1, 1, "parameters, formula 1"), (None, 2, "MACs, formula")],
)
def test_exam_fails_wrong_formulas(params, factor, message):
  case = CASES["full"]
  with pytest.raises(AssertionError, match=message):
    check_attention(
      lambda length, **kinds: make("full", SIZE, **kinds),
      X,
      params=params or case.params(SIZE),
      macs=lambda causal: factor * case.macs(SIZE, causal),
    )


def test_growth_fails_a_wrong_power():
  class Wrong(LinearAttention):
    supports = dataclasses.replace(LinearAttention.supports, growth=2.0)

  with pytest.raises(AssertionError, match=r"grows as T\^1.00, not T\^2"):
    check_growth(lambda length: Wrong(16, 2, rngs=nnx.Rngs(0)), 16)


def test_causal_with_a_context_is_refused():
  with pytest.raises(ValueError, match="causal: tokens of a context"):
    make("full", SIZE)(X, context=X, causal=True)


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("full", {"num_heads": 3}, "num_heads: 3 divides not 16"),
    ("full", {"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads: 3"),
    ("full", {"num_heads": 2, "positions": "learned"}, "positions: 'learned'"),
    ("full", {"num_heads": 2, "dropout_rate": 1.0}, "dropout_rate: 1.0"),
    ("linear", {"num_heads": 2, "positions": "rotary"}, "positions: 'rotary'"),
    ("reformer", {"num_heads": 2, "chunk_size": 8, "num_buckets": 3}, "odd"),
    ("sliding_window", {"num_heads": 2, "widow": 8}, "did you mean 'window'"),
    ("slidingwindow", {}, "did you mean 'sliding_window'"),
  ],
)
def test_a_config_that_cannot_be_is_refused(name, arguments, message):
  with pytest.raises(UserError, match=message):
    build(
      ATTENTION,
      {"name": name, **arguments},
      "config.mixer",
      features=16,
      rngs=nnx.Rngs(0),
    )
