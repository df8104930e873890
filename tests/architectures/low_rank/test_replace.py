"""Structured layers in the place of dense ones, in models of the house."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.sizes import Size, make
from effarch.architectures.convolution import ConvNorm, fold
from effarch.architectures.low_rank import (
  BlockDiagonal,
  ChannelLowRank,
  LoRA,
  LowRank,
  StructuredConv,
  StructuredLinear,
  Tucker,
  replace_conv,
  replace_linear,
)
from effarch.architectures.models import MODELS

SIZE = Size(t=8, c=16, n=2, w=4)
SMALL = {"features": 16, "num_heads": 2, "hidden_features": 24, "depth": 1}
CALLED = {
  "survey_cnn": ((16, 16, 3), {"width_multiplier": 0.05}),
  "encoder": ((8, 5), SMALL),
  "decoder": ((8,), {**SMALL, "vocab_size": 11, "tied": False}),
  "vision_transformer": ((8, 8, 3), {**SMALL, "patch_size": 4}),
  "resnet_20_cifar_option_a": ((8, 8, 3), {}),
  "mobilenet_v2": ((32, 32, 3), {"width_multiplier": 0.1}),
  "convnext_tiny": ((32, 32, 3), {"width_multiplier": 0.1}),
}


def model(name):
  shape, arguments = CALLED[name]
  made = MODELS[name](
    **{"input_shape": shape, "num_classes": 4, **arguments}, rngs=nnx.Rngs(0)
  )
  made.eval()
  x = jax.random.normal(jax.random.key(0), (2, *shape))
  if name == "decoder":
    x = jnp.arange(16).reshape(2, 8) % 11
  return made, x


def outputs(module, x):
  return jax.jit(lambda x: module(x))(x)


@pytest.mark.parametrize("name", CALLED)
def test_in_full_every_model_answers_as_before(name):
  made, x = model(name)
  before = outputs(made, x)
  told = replace_linear(made, LowRank(params_ratio=10.0))
  for count, now in told.replaced.values():
    assert now >= count
  assert not told.left
  modules = [type(module) for _, module in nnx.iter_modules(made)]
  assert modules.count(StructuredLinear) == len(told.replaced)
  assert nnx.Linear not in modules
  close = {"rtol": 1e-3, "atol": 1e-4 * float(abs(before).max())}
  np.testing.assert_allclose(outputs(made, x), before, **close)


@pytest.mark.parametrize("name", ["survey_cnn", "resnet_20_cifar_option_a"])
@pytest.mark.parametrize("structure", [Tucker, ChannelLowRank])
def test_convolutions_are_replaced_and_fold(name, structure):
  made, x = model(name)
  before = outputs(made, x)
  told = replace_conv(made, structure(params_ratio=10.0))
  assert told.replaced
  modules = [type(module) for _, module in nnx.iter_modules(made)]
  assert modules.count(StructuredConv) == len(told.replaced)
  close = {"rtol": 1e-3, "atol": 1e-4 * float(abs(before).max())}
  np.testing.assert_allclose(outputs(made, x), before, **close)
  np.testing.assert_allclose(outputs(fold(made), x), before, **close)


@pytest.mark.parametrize("name", ATTENTION)
def test_every_mixer_works_with_them(name):
  causal = not ATTENTION[name].supports.bidirectional
  mixer = make(name, SIZE, rngs=nnx.Rngs(0))
  mixer.eval()
  x = jax.random.normal(jax.random.key(0), (2, 8, 16))
  before = mixer(x, causal=causal)
  try:
    replace_linear(mixer, LowRank(params_ratio=10.0))
  except ValueError as error:
    assert "the model has no such layers" in str(error)
    return
  after = mixer(x, causal=causal)
  scale = float(abs(before).max())
  np.testing.assert_allclose(after, before, atol=1e-3 * scale)
  if ATTENTION[name].supports.causal:
    state = mixer.init_state(2, 8)
    mixer.step(x[:, 0], state)


def test_paths_choose_and_the_rest_is_told():
  made, x = model("encoder")
  told = replace_linear(
    made, LowRank(rank=2), "blocks.*.feed_forward.*", rngs=nnx.Rngs(1)
  )
  assert told.replaced == {
    f"blocks.0.feed_forward.{name}": (16 * 24, 2 * 40)
    for name in ("gate", "hidden", "out")
  }
  assert told.left["classifier"] == "its path is not blocks.*.feed_forward.*"
  assert "blocks.0.feed_forward.out: 384 numbers are now 80" in str(told)
  assert "classifier: left, its path is not" in str(told)
  assert isinstance(made.classifier, nnx.Linear)
  assert outputs(made, x).shape == (2, 4)


def test_what_does_not_fit_is_left_and_told():
  made, _ = model("encoder")
  told = replace_linear(made, BlockDiagonal(blocks=6))
  assert "blocks: 6 equal parts of 4" in told.left["classifier"]
  assert "blocks.0.mixer.query" in told.replaced
  special = nnx.Linear(4, 4, dot_general=lambda *a, **k: None, rngs=nnx.Rngs(0))
  holder = nnx.List([special, nnx.Linear(4, 4, rngs=nnx.Rngs(0))])
  told = replace_linear(holder, LowRank(rank=1))
  assert told.left == {"0": "it has a dot_general of its own"}
  grouped = ConvNorm(4, 4, groups=2, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=r"where: none of '\*' could be .*2 gr"):
    replace_conv(grouped, ChannelLowRank(rank=1))


def test_wrong_paths_name_the_nearest():
  made, _ = model("encoder")
  with pytest.raises(ValueError, match="did you mean 'classifier'"):
    replace_linear(made, LowRank(rank=2), "classifer")
  with pytest.raises(ValueError, match="the model has no such layers"):
    replace_linear(nnx.List([]), LowRank(rank=2))


def test_drawn_weights_are_new_and_adapters_keep_theirs():
  holder = nnx.List([nnx.Linear(6, 6, use_bias=False, rngs=nnx.Rngs(0))])
  kernel = holder[0].kernel[...]
  replace_linear(holder, LowRank(rank=6), rngs=nnx.Rngs(1))
  assert float(jnp.abs(holder[0].to_dense() - kernel).min()) > 0
  assert holder[0].bias is None

  holder = nnx.List([nnx.Linear(6, 6, rngs=nnx.Rngs(0))])
  holder[0].bias[...] = jnp.arange(6.0)
  replace_linear(holder, LoRA(rank=2), rngs=nnx.Rngs(1))
  np.testing.assert_allclose(holder[0].to_dense(), kernel)
  np.testing.assert_array_equal(holder[0].bias[...], jnp.arange(6.0))


def test_a_shared_layer_stays_shared():
  shared = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
  holder = nnx.List([shared, nnx.List([shared])])
  told = replace_linear(holder, LowRank(rank=1))
  assert list(told.replaced) == ["0", "1.0"]
  assert holder[0] is holder[1][0]


def test_adapters_are_merged_by_folding():
  made = nnx.List([nnx.Linear(6, 4, rngs=nnx.Rngs(0))])
  replace_linear(made, LoRA(rank=2))
  made[0].factors["up"][...] += 1.0
  folded = fold(made)
  assert folded[0].factors.keys() == {"weight"}
  np.testing.assert_allclose(folded[0].kernel, made[0].kernel)


def test_dtypes_are_kept():
  made = nnx.List([nnx.Linear(4, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))])
  replace_linear(made, LowRank(rank=1))
  assert made[0](jnp.ones((1, 4))).dtype == jnp.bfloat16
  assert made[0].factors["up"].dtype == jnp.float32
