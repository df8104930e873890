"""A stream of tokens is the whole sequence, and what is drawn from it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.sizes import ARGUMENTS, Size
from effarch.architectures.models import Decoder, generate

B, T, C, V = 2, 12, 16, 11
PROMPT = 4
SIZE = Size(t=T, c=C, n=2, w=4)
CAUSAL = [name for name, kind in ATTENTION.items() if kind.supports.causal]
# Two mixers in one program: each is in one pair, the last with itself.
PAIRS = [(CAUSAL[i], CAUSAL[~i]) for i in range((len(CAUSAL) + 1) // 2)]
POSITIONS = ("rotary", "learned", "none")

# What of a state grows with the tokens that may come, where something does.
GROWS = {
  "full": ["key", "value"],
  "grouped_query": ["key", "value"],
  "multi_query": ["key", "value"],
  "latent": ["latent"],
  "block_sparse": ["key", "value"],
  "longformer": ["key", "value"],
  "reformer": ["bucket", "query", "value"],
  "dense_synthesizer": ["value"],
  "random_synthesizer": ["value"],
  "factorized_random_synthesizer": ["value"],
  "gmlp": ["mixed"],
  "aft": ["key", "value"],
  "hyena": ["filters", "tokens"],
}


def decoder(mixers=("full",), shape=(T,), classes=V, **arguments):
  arguments = {
    "features": C,
    "num_heads": 2,
    "hidden_features": 8,
    "depth": len(mixers),
    "mixers": [{"name": n, **ARGUMENTS[n](SIZE)} for n in mixers],
    "vocab_size": classes,
    **arguments,
  }
  model = Decoder(shape, classes, **arguments, rngs=nnx.Rngs(0))
  model.eval()
  return model


def tokens(*shape, seed=0):
  drawn = np.random.default_rng(seed).integers(0, V, shape)
  return jnp.asarray(drawn, jnp.int32)


def whole(model):
  graphdef, state = nnx.split(model)
  call = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
  return lambda x: np.asarray(call(state, x))


def stream(model, x, max_length):
  """Returns the logits of one token after another, and the last state."""
  graphdef, state = nnx.split(model)

  @jax.jit
  def run(state, x):
    model = nnx.merge(graphdef, state)

    def step(carry, token):
      out, carry = model.step(token, carry)
      return carry, out

    return jax.lax.scan(step, model.init_state(len(x), max_length), x.T)

  last, found = run(state, x)
  return found.swapaxes(0, 1), last


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_stream_of_every_mixer_is_the_whole(pair):
  # Of every kind of positions some pairs; all that can be rotary in one.
  positions = POSITIONS[PAIRS.index(pair) % 3]
  model = decoder(pair, positions=positions, tied=False)
  assert [type(block.mixer) for block in model.blocks] == [
    ATTENTION[name] for name in pair
  ]
  call, x = whole(model), tokens(B, T)
  wanted = call(x)
  found, last = stream(model, x, T)
  chex.assert_trees_all_close(found, wanted, rtol=1e-4, atol=1e-4)
  assert int(last["position"]) == T
  # No token sees those after it.
  later = call(x.at[:, PROMPT:].set((x[:, PROMPT:] + 1) % V))
  chex.assert_trees_all_close(
    later[:, :PROMPT], wanted[:, :PROMPT], rtol=1e-4, atol=1e-5
  )

  drawn = generate(model, x[:, :PROMPT], T - PROMPT + 1)
  chex.assert_shape(drawn, (B, T - PROMPT + 1))
  assert drawn.dtype == jnp.int32
  # Each is the likeliest after those before it, up to rounding.
  logits = call(jnp.concatenate([x[:, :PROMPT], drawn[:, :-1]], 1))
  logits = logits[:, PROMPT - 1 :]
  chosen = np.take_along_axis(logits, np.asarray(drawn)[..., None], -1)[..., 0]
  assert (chosen >= logits.max(-1) - 1e-4).all()


@pytest.mark.parametrize("positions", POSITIONS)
def test_greedy_is_recomputing_from_scratch(positions):
  model = decoder(
    ("sliding_window", "gated_delta"), positions=positions, tied=False
  )
  call, prompt = whole(model), np.asarray(tokens(3, PROMPT))
  rows = np.zeros((3, T), np.int32)
  rows[:, :PROMPT] = prompt
  for place in range(PROMPT, T):
    rows[:, place] = call(jnp.asarray(rows))[:, place - 1].argmax(-1)
  found = generate(model, jnp.asarray(prompt), T - PROMPT)
  np.testing.assert_array_equal(found, rows[:, PROMPT:])
  assert len(np.unique(found)) > 2, "a prompt that proves little"
  # A row is its own affair.
  alone = generate(model, jnp.asarray(prompt[1:2]), T - PROMPT)
  np.testing.assert_array_equal(alone, found[1:2])
  # One token, and one to come.
  wanted = call(jnp.asarray(rows))[:, 0].argmax(-1)
  found = generate(model, jnp.asarray(prompt[:, :1]), 1)
  np.testing.assert_array_equal(found, wanted[:, None])


def test_a_stream_may_be_shorter_than_what_it_is_made_for():
  model = decoder(("full", "local"))
  x = tokens(B, 5)
  found, _ = stream(model, x, T)
  chex.assert_trees_all_close(found, whole(model)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", ["rotary", "none"])
def test_without_learned_places_more_come_than_were_trained(positions):
  model = decoder(("full", "retnet"), shape=(6,), positions=positions)
  same = decoder(("full", "retnet"), shape=(T,), positions=positions)
  prompt = tokens(B, PROMPT)
  found = generate(model, prompt, T - PROMPT)
  np.testing.assert_array_equal(found, generate(same, prompt, T - PROMPT))


@pytest.mark.parametrize("name", CAUSAL)
def test_states_grow_as_they_say(name):
  def sizes(max_length):
    state = jax.eval_shape(
      lambda: decoder((name,), shape=(32,)).init_state(B, max_length)
    )
    assert set(state) == {"position", "blocks"}
    (state,) = state["blocks"]
    return {
      jax.tree_util.keystr(path): leaf.size
      for path, leaf in jax.tree.leaves_with_path(state)
    }

  small, large = sizes(8), sizes(32)
  assert set(small) == set(large)
  grown = sorted(path for path in small if small[path] != large[path])
  assert grown == [f"['{part}']" for part in GROWS.get(name, [])]
  assert [large[path] for path in grown] == [4 * small[path] for path in grown]
  assert bool(grown) != ATTENTION[name].supports.constant_state


@pytest.fixture(scope="module")
def drawn_from():
  """A small model whose likeliest tokens are not far more likely."""
  return decoder(shape=(4,), classes=5, features=8)


def chances(logits, temperature):
  return np.asarray(jax.nn.softmax(logits / temperature, axis=-1), np.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(drawn_from, temperature):
  """Of two tokens, so that a second that is drawn by the first's noise fails.

  The statistic has 24 degrees of freedom; above 52 are 0.1 of a percent.
  """
  number = 20_000
  prompt = jnp.tile(jnp.asarray([[3, 1]], jnp.int32), (number, 1))
  rng = jax.random.key(7)
  found = np.asarray(
    generate(drawn_from, prompt, 2, temperature=temperature, rng=rng)
  )
  counts = np.zeros((5, 5))
  np.add.at(counts, (found[:, 0], found[:, 1]), 1)
  after = jnp.asarray([[3, 1, token] for token in range(5)], jnp.int32)
  logits = drawn_from(after)
  first, second = (chances(logits[:, i], temperature) for i in (1, 2))
  assert first[0].max() < 0.9, "a prompt that proves little"
  expected = number * first[0][:, None] * second
  assert (np.square(counts - expected) / expected).sum() < 52
  # The temperature matters: another's chances do not fit.
  first, second = (chances(logits[:, i], 1.3 * temperature) for i in (1, 2))
  expected = number * first[0][:, None] * second
  assert (np.square(counts - expected) / expected).sum() > 100


@pytest.mark.parametrize("temperature", [1e-4, 1e-9])
def test_near_zero_the_likeliest_is_drawn(temperature):
  model = decoder(("full", "gated_linear"), tied=False)
  prompt = tokens(8, PROMPT)
  options = {"temperature": temperature, "rng": jax.random.key(0)}
  found = generate(model, prompt, 6, **options)
  np.testing.assert_array_equal(found, generate(model, prompt, 6))


def test_the_same_rng_draws_the_same():
  model = decoder(("gated_linear",))
  prompt = tokens(B, PROMPT)

  def draw(seed):
    rng = jax.random.key(seed)
    return np.asarray(generate(model, prompt, 9, temperature=3.0, rng=rng))

  first = draw(0)
  np.testing.assert_array_equal(first, draw(0))
  assert (first != draw(1)).any()
  # Without a temperature there is nothing to draw.
  greedy = generate(model, prompt, 9, rng=jax.random.key(1))
  np.testing.assert_array_equal(greedy, generate(model, prompt, 9))


def test_rows_are_drawn_each_by_itself():
  model = decoder(("gated_linear",))
  prompt = jnp.tile(tokens(1, PROMPT), (8, 1))
  options = {"temperature": 3.0, "rng": jax.random.key(0)}
  found = np.asarray(generate(model, prompt, 9, **options))
  assert len(np.unique(found, axis=0)) == 8
  # What a row holds changes no other row.
  other = prompt.at[0].set((prompt[0] + 1) % V)
  moved = np.asarray(generate(model, other, 9, **options))
  np.testing.assert_array_equal(moved[1:], found[1:])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"prompt": jnp.zeros((2, 0), jnp.int32)}, "prompt: is empty"),
    ({"length": 0}, "length: 0 is not positive"),
    ({"length": -1}, "length: -1 is not positive"),
    ({"temperature": -0.5}, "temperature: -0.5 is negative"),
    ({"temperature": 0.5}, "rng: is needed"),
    (
      {"length": T - PROMPT + 2},
      f"max_length: {T + 1} tokens come, and it is {T}",
    ),
  ],
)
def test_refuses_the_impossible(arguments, message):
  given = {"model": decoder(), "prompt": tokens(1, PROMPT), "length": 2}
  with pytest.raises(ValueError, match=f"^{message}"):
    generate(**{**given, **arguments})


def test_refuses_more_tokens_than_a_mixer_is_made_for():
  model = decoder(("aft",), positions="none")
  with pytest.raises(ValueError, match="13 tokens come, and it is 12"):
    generate(model, tokens(1, PROMPT), T - PROMPT + 2)


def test_refuses_a_mixer_that_does_not_stream(monkeypatch):
  kind = type("Still", (ATTENTION["linear"],), {})
  kind.init_state = ATTENTION["fnet"].init_state
  monkeypatch.setitem(ATTENTION, "still", kind)
  monkeypatch.setitem(ARGUMENTS, "still", ARGUMENTS["linear"])
  model = decoder(("still",))
  with pytest.raises(ValueError, match="Still does not support streaming"):
    generate(model, tokens(1, PROMPT), 2)
