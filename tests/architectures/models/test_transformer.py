"""Encoders, dual encoders and decoders, with every mixer."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.mixers import CASES
from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.sizes import ARGUMENTS, Size
from effarch.architectures.models import Decoder, DualEncoder, Encoder
from effarch.architectures.models.transformer import POOLS, pool
from effarch.testing import check_layer

B, T, C, F, V, K, N = 3, 16, 16, 24, 11, 5, 2
SIZE = Size(t=T, c=C, n=N, w=4)
SMALL = {"features": C, "num_heads": N, "hidden_features": F}

# What comes of a token in these changes with the padding behind, though not
# with what the padding is: the transform is as long as the padded sequence;
# landmarks are means of so many equal segments of it; random blocks are drawn
# for each number of blocks.
SEES_THE_LENGTH = {"fnet", "nystromformer", "big_bird"}
ONE_WAY = [k for k, v in ATTENTION.items() if not v.supports.bidirectional]
POSITIONS = ("learned", "rotary", "none")


def mixer(name):
  # Of larger blocks so short a sequence has too few for any to be random.
  more = {"block_size": 1} if name == "big_bird" else {}
  return {"name": name, **ARGUMENTS[name](SIZE), **more}


def tokens(lengths=(1, 6, T), seed=0, least=1):
  """Draws sequences of these lengths, with padding behind."""
  x = np.random.default_rng(seed).integers(least, V, (len(lengths), T))
  return np.where(np.arange(T) < np.array(lengths)[:, None], x, 0)


def compiled(model, call=lambda model, x: model(x)):
  """Returns a function of parameters and inputs, and the parameters."""
  model.eval()
  graphdef, state = nnx.split(model)
  return jax.jit(lambda state, x: call(nnx.merge(graphdef, state), x)), state


def layers(mixers, *, gated=True, hidden=F, causal=False):
  """Returns parameters of the layers, and MACs of a sequence in them."""
  linear = (3 if gated else 2) * C * hidden
  norms = (2 if hidden else 1) * C
  params = sum(CASES[name].params(SIZE) + linear + norms for name in mixers)
  macs = sum(CASES[name].macs(SIZE, causal) + T * linear for name in mixers)
  return params + C, macs


def check(kind, shape, x, params, macs, classes=K, **arguments):
  def make(dtype, rngs):
    given = {**SMALL, "dtype": jnp.dtype(dtype).name, **arguments}
    return kind(shape, classes, **given, rngs=rngs)

  outs = (T, classes) if kind is Decoder else (classes,)
  # Two layers round twice: over eight seeds bfloat16 is off by up to 0.064.
  costs = {"params": params, "macs": macs}
  check_layer(make, x, (len(x), *outs), **costs, half_error=0.1)


@pytest.mark.parametrize(
  ("inputs", "mixers", "arguments", "places"),
  [
    ("tokens", ["full"], {"depth": 1}, T),
    (
      *("floats", ["full", "linear"]),
      {
        "positions": "rotary",
        "norm": "post",
        "pooling": "max",
        "feed_forward": "relu",
      },
      0,
    ),
    (
      *("tokens", ["retnet"]),
      {
        "depth": 1,
        "positions": "none",
        "hidden_features": 0,
        "pooling": "last",
      },
      0,
    ),
  ],
)
def test_exam_of_the_encoder(inputs, mixers, arguments, places):
  params, macs = layers(
    mixers,
    gated="feed_forward" not in arguments,
    hidden=arguments.get("hidden_features", F),
    causal=mixers == ["retnet"],
  )
  params += places * C + C * K + K
  macs = B * (macs + C * K)
  options = {**arguments, "mixers": [mixer(name) for name in mixers]}
  if inputs == "tokens":
    x, shape = jnp.asarray(tokens()), (T,)
    params, options = params + V * C, {**options, "vocab_size": V}
  else:
    x, shape = jax.random.normal(jax.random.key(0), (B, T, 7)), (T, 7)
    params, macs = params + 7 * C + C, macs + B * T * 7 * C
  check(Encoder, shape, x, params, macs, **options)


def test_exam_of_the_dual_encoder():
  params, macs = layers(["full"])
  params += V * C + T * C + 3 * C**2 + C + C * K + K
  macs = B * (2 * macs + 3 * C**2 + C * K)
  x = tokens((1, 6, T, T, 4, 9)).reshape(B, 2, T)
  options = {"depth": 1, "vocab_size": V}
  check(DualEncoder, (2, T), jnp.asarray(x), params, macs, **options)


@pytest.mark.parametrize(
  ("tied", "names"), [(True, ["full", "retnet"]), (False, ["latent"])]
)
def test_exam_of_the_decoder(tied, names):
  params, macs = layers(names, causal=True)
  classes = V if tied else K
  params += V * C + T * C + (0 if tied else C * K)
  macs = B * (macs + T * C * classes)
  mixers = [mixer(name) for name in names]
  options = {"vocab_size": V, "tied": tied, "mixers": mixers}
  options["depth"] = len(names)
  x = jnp.asarray(tokens((T,) * B, least=0))
  check(Decoder, (T,), x, params, macs, classes, **options)


@pytest.mark.parametrize("name", ATTENTION)
def test_every_mixer_encodes_what_is_no_padding(name):
  """The results of short sequences do not depend on what follows them."""
  one_way = name in ONE_WAY
  positions = POSITIONS[list(ATTENTION).index(name) % 3]
  model = Encoder(
    *((T,), K),
    **{**SMALL, "hidden_features": 8},
    vocab_size=V,
    # The second layer of those that see one way alone goes back.
    depth=2 if one_way else 1,
    mixers=[mixer(name)],
    positions=positions,
    rngs=nnx.Rngs(0),
  )
  call, state = compiled(model)
  x = tokens((1, 2, 6, T))
  long, short = call(state, x), call(state, x[:3, :7])
  chex.assert_tree_all_finite((long, short))
  moved = not np.allclose(long[:3], short, rtol=1e-4, atol=1e-5)
  assert moved == (name in SEES_THE_LENGTH)
  # What padding is embedded to is not seen.
  table = state["embedding"]["embedding"]
  state["embedding"]["embedding"] = table.replace(table[...].at[0].add(3))
  padding = np.asarray(call(state, x))
  chex.assert_trees_all_close(padding, long, rtol=1e-4, atol=1e-5)
  # A token is.
  x[2, 5] = x[2, 5] % (V - 1) + 1
  assert np.abs(call(state, x)[2] - padding[2]).max() > 1e-4


@pytest.mark.parametrize(
  ("names", "positions"),
  [
    *((("sliding_window", "retnet"), positions) for positions in POSITIONS),
    # Turned after their convolutions: one layer starts from the padding.
    (("delta", "delta"), "rotary"),
  ],
)
def test_positions_and_padding(names, positions):
  model = Encoder(
    *((T,), K),
    **SMALL,
    vocab_size=V,
    mixers=[mixer(name) for name in names],
    positions=positions,
    rngs=nnx.Rngs(0),
  )
  call, state = compiled(model)
  x = tokens((1, 6, 7))
  long = call(state, x)
  chex.assert_tree_all_finite(long)
  chex.assert_trees_all_close(long, call(state, x[:, :9]), atol=1e-5)
  # The order is told; these tell it by what they see too.
  other = x[:, [1, 0, *range(2, T)]]
  assert np.abs(call(state, other)[1:] - long[1:]).max(1).min() > 1e-5


@pytest.mark.parametrize("positions", POSITIONS)
def test_full_attention_has_an_order_by_positions_alone(positions):
  model = Encoder(
    *((T,), K),
    **SMALL,
    vocab_size=V,
    positions=positions,
    rngs=nnx.Rngs(0),
  )
  call, state = compiled(model)
  x = tokens((T, T))
  moved = np.abs(call(state, x) - call(state, x[:, ::-1])).max()
  assert (moved < 1e-5) == (positions == "none")


@pytest.mark.parametrize("name", ONE_WAY)
def test_two_layers_of_one_way_mixers_see_both_ways(name):
  model = Encoder(
    *((T, 3), K),
    **{**SMALL, "hidden_features": 0},
    depth=2,
    mixers=[mixer(name)],
    rngs=nnx.Rngs(0),
  )
  model.eval()
  graphdef, state = nnx.split(model)

  @jax.jit
  @functools.partial(jax.grad, argnums=0)
  def slope(x, place):
    model = nnx.merge(graphdef, state)
    # The sum of squares would be the same for whatever is normed.
    return model.encode(model.embed(x))[:, place, ::2].sum()

  x = jax.random.normal(jax.random.key(0), (1, T, 3))
  chex.assert_tree_all_finite((slope(x, 0), slope(x, T - 1)))
  assert float(abs(slope(x, 0))[0, -1].max()) > 1e-7
  assert float(abs(slope(x, T - 1))[0, 0].max()) > 1e-7


def naive_pool(x, mask, kind):
  rows = []
  for tokens_of_row, seen in zip(x, mask, strict=True):
    real = tokens_of_row[seen]
    rows.append(
      {
        "mean": real.mean(0),
        "max": real.max(0),
        "first": real[0],
        "last": real[-1],
      }[kind]
    )
  return np.stack(rows)


@pytest.mark.parametrize("kind", POOLS)
def test_pooling_is_its_twin(kind):
  # All are negative, so that padding taken for zero would be the largest.
  x = -np.random.default_rng(0).uniform(1, 2, (5, 6, 4)).astype(np.float32)
  mask = np.arange(6) < np.array([[6], [5], [2], [1], [6]])
  mask[4, [0, 2, 5]] = False
  found = pool(jnp.asarray(x), jnp.asarray(mask), kind)
  np.testing.assert_allclose(found, naive_pool(x, mask, kind), rtol=1e-6)
  everything = pool(jnp.asarray(x), None, kind)
  wanted = naive_pool(x, np.ones((5, 6), bool), kind)
  np.testing.assert_allclose(everything, wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", POOLS)
def test_a_sequence_of_padding_alone_has_finite_logits(kind):
  model = Encoder(
    *((T,), K), **SMALL, vocab_size=V, pooling=kind, rngs=nnx.Rngs(0)
  )
  call, state = compiled(model)
  chex.assert_tree_all_finite(call(state, tokens((0, 3))))


@pytest.mark.parametrize("kind", POOLS)
def test_the_encoder_classifies_what_is_pooled(kind):
  model = Encoder(
    *((T,), K), **SMALL, vocab_size=V, pooling=kind, rngs=nnx.Rngs(0)
  )
  x = tokens((1, 6, T))
  encoded = compiled(
    model, lambda model, x: model.encode(model.embed(x), x != 0)
  )
  vectors = naive_pool(np.asarray(encoded[0](encoded[1], x)), x != 0, kind)
  call, state = compiled(model)
  classifier = model.classifier
  wanted = vectors @ classifier.kernel[...] + classifier.bias[...]
  chex.assert_trees_all_close(call(state, x), wanted, atol=1e-5)


def test_a_pair_is_the_same_in_either_order():
  model = DualEncoder(*((2, T), K), **SMALL, vocab_size=V, rngs=nnx.Rngs(0))
  call, state = compiled(model)
  x = tokens((1, 6, T, T, 4, 9)).reshape(B, 2, T)
  found = call(state, x)
  chex.assert_trees_all_close(call(state, x[:, ::-1]), found, atol=1e-5)
  # Against its twin, of the same vectors.
  vector, _ = compiled(model, lambda model, x: model.vector(x))
  first, second = (np.asarray(vector(state, x[:, i])) for i in (0, 1))
  parts = [first + second, np.abs(first - second), first * second]
  hidden, classifier = model.hidden, model.classifier
  hidden = np.concatenate(parts, -1) @ hidden.kernel[...] + hidden.bias[...]
  wanted = np.maximum(hidden, 0) @ classifier.kernel[...] + classifier.bias[...]
  chex.assert_trees_all_close(found, wanted, atol=1e-5)
  # Of each sequence it does matter what it is.
  x[0, 1, 3] = x[0, 1, 3] % (V - 1) + 1
  moved = np.abs(call(state, x) - found).max(1)
  assert moved[0] > 1e-4
  assert moved[1:].max() < 1e-6


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_decoder_sees_nothing_that_comes(positions):
  model = Decoder(
    *((T,), V),
    **SMALL,
    vocab_size=V,
    positions=positions,
    mixers=[mixer("full"), mixer("gated_linear")],
    rngs=nnx.Rngs(0),
  )
  call, state = compiled(model)
  x = tokens((T, T))
  found = call(state, x)
  for place in (0, 1, T // 2, T - 1):
    other = x.copy()
    other[:, place:] = (other[:, place:] + 1) % V
    moved = np.abs(call(state, other) - found).max((0, 2))
    assert moved[:place].max(initial=0) < 1e-5
    # What went before is seen by the last: tokens are no bag of one.
    assert moved[place:].min() > 1e-4
  short = call(state, x[:, :5])
  chex.assert_trees_all_close(short, found[:, :5], atol=1e-5)
  # Zero is a token like others, and seen by those after it.
  x[:, 0] = 0
  found = call(state, x)
  table = state["embedding"]["embedding"]
  state["embedding"]["embedding"] = table.replace(table[...].at[0].add(3))
  moved = np.abs(call(state, x) - found)[:, 1:, 1:].max((0, 2))
  assert moved.min() > 1e-4


def test_tied_embeddings_are_one_array_with_two_uses():
  options = {**SMALL, "vocab_size": V, "positions": "none"}
  model = Decoder((T,), V, **options, rngs=nnx.Rngs(0))
  assert model.classifier is None
  call, state = compiled(
    model, lambda model, x: model.encode(model.embed(x), causal=True)
  )
  x = tokens((T, T))
  table = np.asarray(model.embedding.embedding[...])
  wanted = np.asarray(call(state, x)) @ table.T
  whole, _ = compiled(model)
  chex.assert_trees_all_close(whole(state, x), wanted, atol=1e-5)

  def loss(model, x):
    return jnp.square(model(x)[:, :, 2]).sum()

  graphdef, params = nnx.split(model)
  slope = jax.jit(
    jax.grad(lambda params, x: loss(nnx.merge(graphdef, params), x))
  )
  found = slope(params, np.where(x == 2, 3, x))["embedding"]["embedding"]
  found = np.abs(found[...]).max(1)
  # Token 2 is no input, and only its logit counts; 1 and 3 are inputs.
  assert found[2] > 0
  assert found[3] > 0
  assert found[0] == 0


def test_a_classifier_of_its_own():
  options = {**SMALL, "vocab_size": V, "tied": False}
  model = Decoder((T,), K, **options, rngs=nnx.Rngs(0))
  call, state = compiled(
    model, lambda model, x: model.encode(model.embed(x), causal=True)
  )
  x = tokens((T, T))
  assert model.classifier.bias is None
  wanted = np.asarray(call(state, x)) @ np.asarray(model.classifier.kernel[...])
  whole, _ = compiled(model)
  chex.assert_trees_all_close(whole(state, x), wanted, atol=1e-5)
