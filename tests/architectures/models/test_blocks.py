"""Layers and stacks of them against NumPy."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION, Mixer, Supports
from effarch.architectures.models import Decoder, Encoder
from effarch.architectures.models.blocks import (
  FEED_FORWARDS,
  Block,
  FeedForward,
  Transformer,
)

B, T, C, F = 3, 5, 6, 7
X = jax.random.normal(jax.random.key(0), (B, T, C))
# No token is padding, only the last, and the last but one.
MASK = np.arange(T) < np.array([[5], [4], [3]])


class Totals(Mixer):
  """A token becomes three times the sum of the tokens that it sees."""

  supports = Supports(constant_state=True)
  position_kinds = ("none", "rotary")

  def __init__(
    self,
    features,
    num_heads,
    max_length,
    *,
    positions="none",
    dtype=None,
    param_dtype=None,
    rngs=None,
  ):
    self.told = (features, num_heads, max_length, positions, dtype, param_dtype)

  def mix(self, x, context, mask, causal):
    seen = x if mask is None else jnp.where(mask[..., None], x, 0)
    total = jnp.cumsum(seen, 1) if causal else seen.sum(1, keepdims=True)
    return jnp.broadcast_to(3 * total, x.shape)

  def init_state(self, batch_size, max_length):
    return jnp.zeros((batch_size, C))

  def step(self, x, state):
    return 3 * (state + x), state + x


class OneWay(Totals):
  """The same, and causal alone."""

  supports = dataclasses.replace(Totals.supports, bidirectional=False)
  position_kinds = ()


class Nothing(Mixer):
  """Adds nothing."""

  supports = Supports()

  def __init__(self, features, *, rngs=None):
    pass

  def mix(self, x, context, mask, causal):
    return jnp.zeros_like(x)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
  for kind in (Totals, OneWay, Nothing):
    monkeypatch.setitem(ATTENTION, kind.__name__, kind)


def scramble(layer):
  """Draws all parameters anew, so that scales of one are told from none."""
  rng = np.random.default_rng(1)
  params = nnx.state(layer, nnx.Param)
  drawn = jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params
  )
  nnx.update(layer, drawn)
  layer.eval()
  return layer


def transformer(*mixers, **arguments):
  arguments = {
    "mixers": [{"name": name} for name in mixers] or [{"name": "Totals"}],
    "features": C,
    "hidden_features": 0,
    **arguments,
  }
  return Transformer(T, 4, **arguments, rngs=nnx.Rngs(0))


def block(mixer, hidden_features=F, **arguments):
  mixer = mixer(C, 1, T) if mixer is not Nothing else mixer(C)
  rngs = nnx.Rngs(0)
  return Block(mixer, C, hidden_features, **arguments, rngs=rngs)


def close(found, wanted):
  chex.assert_trees_all_close(
    np.asarray(found), np.asarray(wanted, np.float32), rtol=1e-4, atol=1e-4
  )


# The twins.


def gelu(x):
  return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


ACTIVATIONS = {
  "swiglu": lambda x: x / (1 + np.exp(-x)),
  "geglu": gelu,
  "gelu": gelu,
  "relu": lambda x: np.maximum(x, 0),
}


def wide(x):
  return np.asarray(x, np.float64)


def naive_feed_forward(layer, kind, x):
  hidden = x @ wide(layer.hidden.kernel)
  if kind in ("swiglu", "geglu"):
    hidden = ACTIVATIONS[kind](x @ wide(layer.gate.kernel)) * hidden
  else:
    hidden = ACTIVATIONS[kind](hidden)
  return hidden @ wide(layer.out.kernel)


def naive_norm(norm, x):
  size = np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
  return x / size * wide(norm.scale)


def naive_totals(x, mask, causal, backwards=False):
  found = np.zeros(x.shape)
  for row in range(x.shape[0]):
    for t in range(x.shape[1]):
      for s in range(x.shape[1]):
        hidden = s < t if backwards else s > t
        if mask[row, s] and not (causal and hidden):
          found[row, t] += 3 * x[row, s]
  return found


def naive_block(layer, x, mix, norm, kind):
  branches = [mix]
  if layer.feed_forward is not None:
    branches.append(lambda y: naive_feed_forward(layer.feed_forward, kind, y))
  for branch, scale in zip(branches, layer.norms, strict=True):
    if norm == "pre":
      x = x + branch(naive_norm(scale, x))
    else:
      x = naive_norm(scale, x + branch(x))
  return x


@pytest.mark.parametrize("kind", FEED_FORWARDS)
def test_feed_forward_is_its_twin(kind):
  layer = scramble(FeedForward(C, F, kind, rngs=nnx.Rngs(0)))
  close(layer(X), naive_feed_forward(layer, kind, wide(X)))
  close(layer(X[0, 0]), naive_feed_forward(layer, kind, wide(X[0, 0])))
  count = sum(x.size for x in jax.tree.leaves(nnx.state(layer)))
  assert count == (3 if kind in ("swiglu", "geglu") else 2) * C * F


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kind", [*FEED_FORWARDS, None])
def test_block_is_its_twin(norm, kind):
  options = {} if kind is None else {"feed_forward": kind}
  size = 0 if kind is None else F
  layer = scramble(block(Totals, size, norm=norm, **options))
  assert (layer.feed_forward is None) == (kind is None)
  assert len(layer.norms) == (1 if kind is None else 2)
  for causal in (False, True):
    wanted = naive_block(
      layer, wide(X), lambda y, c=causal: naive_totals(y, MASK, c), norm, kind
    )
    close(layer(X, jnp.asarray(MASK), causal), wanted)
  # One token after another, without padding.
  seen = np.ones((B, T), bool)
  wanted = naive_block(
    layer, wide(X), lambda y: naive_totals(y, seen, True), norm, kind
  )
  state = layer.mixer.init_state(B, T)
  for place in range(T):
    out, state = layer.step(X[:, place], state)
    close(out, wanted[:, place])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
  "mixers", [("Totals",), ("OneWay",), ("Totals", "OneWay")]
)
def test_layers_go_forth_and_back(mixers, causal):
  """One-way mixers go forth and back in turns, unless all is causal."""
  model = scramble(transformer(*mixers, depth=4))
  x = wide(X)
  before = 0
  for layer, block in enumerate(model.blocks):
    one_way = mixers[layer % len(mixers)] == "OneWay"
    back = one_way and before % 2 == 1 and not causal
    before += one_way

    def mix(y, one_way=one_way, back=back):
      return naive_totals(y, MASK, causal or one_way, back)

    x = naive_block(block, x, mix, "pre", None)
  found = model.encode(X, jnp.asarray(MASK), causal)
  close(found, naive_norm(model.norm, x))
  # Without a mask nothing is hidden.
  all_seen = model.encode(X, jnp.ones((B, T), bool), causal)
  close(model.encode(X, causal=causal), all_seen)


def test_layers_take_turns():
  model = transformer("Totals", "OneWay", "Nothing", depth=7)
  found = [type(block.mixer) for block in model.blocks]
  assert found == [Totals, OneWay, Nothing] * 2 + [Totals]
  # Each layer is its own, though two of them have one config.
  real = transformer(mixers=[{"name": "full"}], num_heads=2, depth=2)
  first, second = (block.mixer.query.kernel[...] for block in real.blocks)
  assert not jnp.array_equal(first, second)


def test_mixers_take_what_the_model_offers_unless_they_say_it():
  model = transformer(
    mixers=[
      {"name": "Totals"},
      {"name": "Totals", "num_heads": 3, "max_length": 9, "positions": "none"},
      {"name": "OneWay"},
    ],
    num_heads=2,
    depth=3,
    positions="rotary",
    dtype="bfloat16",
    param_dtype="float32",
  )
  kinds = jnp.dtype("bfloat16"), jnp.dtype("float32")
  told = [block.mixer.told for block in model.blocks]
  assert told[0] == (C, 2, T, "rotary", *kinds)
  assert told[1] == (C, 3, 9, "none", *kinds)
  # It has no positions, and gets none.
  assert told[2] == (C, 2, T, "none", *kinds)


@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_embedded_tokens_have_their_places(positions):
  model = scramble(transformer(vocab_size=8, positions=positions))
  x = np.array([[3, 0, 7, 7], [1, 2, 2, 5]])
  table = np.asarray(model.embedding.embedding[...])
  assert table.shape == (8, C)
  for start in (0, 1):
    wanted = table[x]
    if positions == "learned":
      places = np.asarray(model.places.embedding[...])
      assert places.shape == (T, C)
      wanted = wanted + places[start : start + 4]
    close(model.embed(jnp.asarray(x), start), wanted)
  assert (model.places is None) == (positions != "learned")
  # Only the mixers that have queries and keys are told of rotary ones.
  told = model.blocks[0].mixer.told[3]
  assert told == ("rotary" if positions == "rotary" else "none")


def test_floats_are_projected():
  model = scramble(transformer())
  x = np.random.default_rng(2).normal(size=(B, 3, 4)).astype(np.float32)
  linear, places = model.embedding, model.places.embedding[...]
  wanted = x @ linear.kernel[...] + linear.bias[...] + places[:3]
  close(model.embed(jnp.asarray(x)), wanted)
  with pytest.raises(ValueError, match="6 tokens come, and it is 5"):
    model.embed(jnp.zeros((1, 6, 4)))


@pytest.mark.parametrize("mixer", [Totals, Nothing])
def test_dropout_drops_what_is_added(mixer):
  """Of the mixer, and of the feed-forward network where that adds alone."""
  rate, x = 0.25, jnp.tile(X, (20, 1, 1))
  size = F if mixer is Nothing else 0
  layer = scramble(block(mixer, size, dropout_rate=rate))
  added = layer(x) - x
  close(layer(x) - x, added)
  layer.train()
  dropped = layer(x) - x
  kept = abs(dropped) > 1e-7
  close(dropped, jnp.where(kept, added / (1 - rate), 0))
  assert abs(float(kept.mean()) - (1 - rate)) < 0.03
  assert bool(jnp.any((layer(x) - x != 0) != kept)), "twice the same"


def test_dropout_of_embedded_tokens():
  model = scramble(transformer(dropout_rate=0.5))
  x = jnp.asarray(np.random.default_rng(3).normal(size=(40, T, 4)), jnp.float32)
  wanted = model.embed(x)
  close(model.embed(x), wanted)
  model.train()
  found = model.embed(x)
  close(found, jnp.where(found != 0, 2 * wanted, 0))
  assert abs(float((found != 0).mean()) - 0.5) < 0.05


def test_dropout_comes_from_the_seed():
  x = X[..., :4]

  def outs(seed):
    model = Encoder(
      *((T, 4), 3),
      features=C,
      num_heads=2,
      hidden_features=F,
      dropout_rate=0.3,
      rngs=nnx.Rngs(params=0, dropout=seed),
    )
    model.train()
    training = [np.asarray(model(x)) for _ in range(2)]
    model.eval()
    return training, [np.asarray(model(x)) for _ in range(2)]

  training, evaluation = outs(1)
  assert np.abs(training[0] - training[1]).max() > 1e-3
  np.testing.assert_array_equal(evaluation[0], evaluation[1])
  again, same = outs(1)
  np.testing.assert_array_equal(training, again)
  np.testing.assert_array_equal(evaluation, same)
  other, same = outs(2)
  assert np.abs(other[0] - training[0]).max() > 1e-3
  np.testing.assert_array_equal(evaluation, same)


@pytest.mark.parametrize("model", [Encoder, Decoder])
def test_bfloat16_is_computed_in_and_float32_kept(model):
  made = model(
    *((T,), 9),
    vocab_size=9,
    features=C,
    hidden_features=F,
    num_heads=2,
    mixers=[{"name": "full"}, {"name": "linear"}],
    positions="learned",
    dtype="bfloat16",
    rngs=nnx.Rngs(0),
  )
  for leaf in jax.tree.leaves(nnx.state(made, nnx.Param)):
    assert leaf.dtype == jnp.float32
  x = jnp.ones((B, T), jnp.int32)
  embedded = made.embed(x)
  assert embedded.dtype == jnp.bfloat16
  for block in made.blocks:
    assert block(embedded, causal=True).dtype == jnp.bfloat16
  assert made.encode(embedded, causal=True).dtype == jnp.bfloat16
  assert made(x).dtype == jnp.float32
