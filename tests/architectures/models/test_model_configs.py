"""Configs of models: what is refused, and how it is told."""

import re

import jax.numpy as jnp
import pytest
from flax import nnx
from ml_collections import ConfigDict

from effarch.architectures.models import MODELS
from effarch.config import build
from effarch.errors import UserError
from tests.architectures.models.test_networks import PUBLISHED

MIXER = "config.model.mixers[0]"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"mixers": [{"name": "ful"}]}, f"{MIXER}.name: 'ful' is unknown; did"),
    (
      {"mixers": [{"name": "full"}, {"name": "fool"}]},
      "config.model.mixers[1].name: 'fool' is unknown",
    ),
    ({"mixers": [{}]}, f"{MIXER}.name: None is unknown"),
    ({"mixers": [{"name": "full", "heads": 2}]}, f"{MIXER}.heads: unknown; "),
    ({"mixers": [{"name": "full", "features": 2}]}, f"{MIXER}.features: unk"),
    ({"mixers": [{"name": "local"}]}, f"{MIXER}.block_size: missing"),
    (
      {"mixers": [{"name": "s4d", "state_dim": 3}]},
      f"{MIXER}.state_dim: 3 is odd",
    ),
    (
      {"mixers": [{"name": "local", "block_size": 2.5}]},
      f"{MIXER}.block_size: 2.5 is no int",
    ),
    ({"num_heads": 3}, f"{MIXER}.num_heads: 3 divides not 16 features"),
    ({"mixers": []}, "config.model.mixers: () is no list of mixers"),
    ({"mixers": ["full"]}, "config.model.mixers: ('full',) is no list of mix"),
    (
      {"mixers": [{"name": "full"}] * 3, "depth": 2},
      "config.model.mixers: 3 are more than 2 layers",
    ),
    ({"num_heads": 0}, f"{MIXER}.num_heads: 0 is not positive"),
    ({"features": 0}, "config.model.features: 0 is not positive"),
    ({"depth": 0}, "config.model.depth: 0 is not positive"),
    ({"depth": "2"}, "config.model.depth: '2' is no int"),
    ({"hidden_features": -1}, "config.model.hidden_features: -1 is negative"),
    ({"dropout_rate": 1.0}, "config.model.dropout_rate: 1.0 is not in [0, 1)"),
    ({"dropout_rate": -0.1}, "config.model.dropout_rate: -0.1 is not in"),
    ({"dtype": "float16"}, "config.model.dtype: 'float16' is neither"),
    ({"norm": "prenorm"}, "config.model.norm: 'prenorm' is unknown; did you"),
    ({"feed_forward": "glu"}, "config.model.feed_forward: 'glu' is unknown; "),
    ({"positions": "rope"}, "config.model.positions: 'rope' is unknown; "),
    ({"pooling": "avg"}, "config.model.pooling: 'avg' is unknown; choose"),
    ({"pool": "max"}, "config.model.pool: unknown; did you mean 'pooling'?"),
  ],
)
@pytest.mark.parametrize("kind", [dict, ConfigDict])
def test_a_config_that_cannot_be_is_refused(kind, arguments, message):
  config = {"name": "encoder", "vocab_size": 9, "features": 16, "num_heads": 2}
  config = kind({**config, **arguments})
  with pytest.raises(UserError) as caught:
    build(
      *(MODELS, config, "config.model"),
      input_shape=(5,),
      num_classes=3,
      rngs=nnx.Rngs(0),
    )
  told = str(caught.value)
  assert told.startswith(message)
  assert "\n" not in told


TOKENS = {"vocab_size": 9}


@pytest.mark.parametrize(
  ("name", "shape", "arguments", "message"),
  [
    ("encoder", (5, 2), TOKENS, "input_shape: (5, 2) is not T, of tokens"),
    ("encoder", (5,), {}, "input_shape: (5,) is not T D"),
    ("encoder", (5, 2, 3), {}, "input_shape: (5, 2, 3) is not T D"),
    ("dual_encoder", (5,), TOKENS, "input_shape: (5,) is no pair, 2 T"),
    ("dual_encoder", (3, 5), TOKENS, "input_shape: (3, 5) is no pair, 2 T"),
    ("dual_encoder", (2, 5, 3), {}, "input_shape: (2, 5, 3) is no pair, 2 T"),
    ("decoder", (5, 2), TOKENS, "input_shape: (5, 2) is not T, of tokens"),
    ("decoder", (5,), {}, "input_shape: (5,) is not T, of tokens"),
    (
      *("decoder", (5,), {"vocab_size": 8}),
      "tied: 9 classes are not the 8 tokens",
    ),
    (
      *("decoder", (5,), {**TOKENS, "mixers": [{"name": "fnet"}]}),
      "mixers: FNet is not causal, and a decoder is",
    ),
    (
      "decoder",
      (5,),
      # Only the second of the layers is not causal.
      {**TOKENS, "mixers": [{"name": "full"}, {"name": "fnet"}]},
      "mixers: FNet is not causal, and a decoder is",
    ),
    ("vision_transformer", (8, 8), {}, "input_shape: (8, 8) is not H W D"),
    (
      *("vision_transformer", (8, 9, 3), {"patch_size": 4}),
      "patch_size: 4 divides not 8 x 9 pixels",
    ),
    (
      *("vision_transformer", (9, 8, 3), {"patch_size": 4}),
      "patch_size: 4 divides not 9 x 8 pixels",
    ),
    (
      *("vision_transformer", (8, 8, 3), {"patch_size": 16}),
      "patch_size: 16 divides not 8 x 8 pixels",
    ),
    (
      *("vision_transformer", (8, 8, 3), {"patch_size": 0}),
      "patch_size: 0 divides not 8 x 8 pixels",
    ),
  ],
)
def test_inputs_that_a_model_cannot_take_are_refused(
  name, shape, arguments, message
):
  config = {"features": 8, "num_heads": 2, **arguments}
  with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
    MODELS[name](shape, 9, **config, rngs=nnx.Rngs(0))


def test_more_tokens_than_there_are_places_are_refused():
  model = MODELS["encoder"]((5,), 3, vocab_size=9, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="6 tokens come, and it is 5"):
    model(jnp.ones((1, 6), jnp.int32))


@pytest.mark.parametrize("mixers", [[{"name": "full"}], ({"name": "full"},)])
@pytest.mark.parametrize("kind", [dict, ConfigDict])
def test_every_transformer_is_built_from_a_config(kind, mixers):
  shapes = {
    "encoder": (5,),
    "dual_encoder": (2, 5),
    "decoder": (5,),
    "vision_transformer": (8, 4, 3),
  }
  # All others are networks of convolutions, which have tests of their own.
  assert {*shapes, "survey_cnn", *PUBLISHED} == set(MODELS)
  for name, shape in shapes.items():
    tokens = {} if name == "vision_transformer" else TOKENS
    config = kind({"name": name, "mixers": mixers, "depth": 1, **tokens})
    model = build(
      *(MODELS, config, "config.model"),
      input_shape=shape,
      num_classes=9,
      rngs=nnx.Rngs(0),
    )
    assert type(model) is MODELS[name]


@pytest.mark.parametrize(
  ("name", "kind", "classes"),
  [
    ("mobilenet_v1_0.5", "MobileNetV1", 9),
    ("resnet_20_cifar_option_a", "CifarResNet", 9),
  ],
)
def test_networks_with_other_defaults_are_built_too(name, kind, classes):
  model = build(
    *(MODELS, {"name": name, "dtype": "bfloat16"}, "config.model"),
    input_shape=(8, 8, 2),
    num_classes=classes,
    rngs=nnx.Rngs(0),
  )
  assert type(model).__name__ == kind
  assert model.classifier.out_features == classes
  with pytest.raises(UserError, match=r"config\.model\.blok: unknown"):
    build(
      *(MODELS, {"name": name, "blok": 1}, "config.model"),
      input_shape=(8, 8, 2),
      num_classes=classes,
      rngs=nnx.Rngs(0),
    )
