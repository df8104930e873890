import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import fold
from effarch.architectures.models import MODELS
from effarch.infrastructure.cost import measure

# The survey's own models, 32x32x3 and 10 classes, moving statistics counted.
SURVEY_PARAMETERS = {
  0.05: 14_713,
  0.1: 26_044,
  0.25: 98_570,
  0.5: 350_058,
  0.75: 764_874,
  1.0: 1_343_018,
}


def survey_cnn(**arguments):
  arguments = {"input_shape": (32, 32, 3), "num_classes": 10, **arguments}
  return MODELS["survey_cnn"](**arguments, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("width", "expected"), SURVEY_PARAMETERS.items())
def test_parameters_are_the_surveys(width, expected):
  model = nnx.eval_shape(lambda: survey_cnn(width_multiplier=width))
  model.eval()
  cost = measure(model, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
  assert cost.params + cost.statistics == expected


@pytest.mark.parametrize("convolution", ["standard", "separable"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (13, 17, 2)])
def test_any_input_size_and_channels(convolution, shape):
  model = survey_cnn(
    input_shape=shape,
    num_classes=3,
    width_multiplier=0.05,
    convolution=convolution,
  )
  model.eval()
  logits = model(jnp.ones((2, *shape)))
  chex.assert_shape(logits, (2, 3))
  chex.assert_tree_all_finite(logits)


def test_separable_sibling_costs_far_less():
  costs = {}
  for name in ("standard", "separable"):
    model = survey_cnn(convolution=name)
    model.eval()
    costs[name] = measure(model, jnp.zeros((1, 32, 32, 3))).macs
  assert costs["separable"] < costs["standard"] / 4


@pytest.mark.parametrize("convolution", ["standard", "separable"])
def test_compiled_bfloat16_stays_near_float32(convolution):
  # A compiler may fuse layers that eager execution runs one by one.
  arguments = {"width_multiplier": 0.05, "convolution": convolution}
  model = survey_cnn(**arguments, input_shape=(16, 16, 3))
  half = survey_cnn(**arguments, input_shape=(16, 16, 3), dtype="bfloat16")
  x = jax.random.normal(jax.random.key(0), (64, 16, 16, 3))
  for network in (model, half):
    network.eval()
  graphdef, state = nnx.split(half)
  compiled = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
  scale = float(jnp.abs(model(x)).max())
  chex.assert_trees_all_close(compiled(state, x), model(x), atol=0.03 * scale)


def test_bfloat16_computes_in_half_and_answers_in_float32():
  model = survey_cnn(width_multiplier=0.05, dtype="bfloat16")
  for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)):
    assert leaf.dtype == jnp.float32
  graphdef, state = nnx.split(model)
  text = str(
    jax.make_jaxpr(lambda s, x: nnx.merge(graphdef, s)(x))(
      state, jnp.zeros((1, 32, 32, 3))
    )
  )
  convolutions = [line for line in text.split("\n") if "conv_general" in line]
  assert len(convolutions) == 6
  assert all("bf16[" in line for line in convolutions)
  assert model(jnp.zeros((2, 32, 32, 3))).dtype == jnp.float32


@pytest.mark.parametrize("convolution", ["standard", "separable"])
@pytest.mark.parametrize("least", [-1.0, 0.0])
def test_folded_it_computes_the_same_without_scales(convolution, least):
  """With negative scales of normalizations, and without."""
  model = survey_cnn(
    input_shape=(9, 8, 2), width_multiplier=0.1, convolution=convolution
  )
  draw = np.random.default_rng(0)
  for norm in model.norms:
    for part, low in (
      *((norm.scale, least), (norm.bias, -1.0)),
      *((norm.mean, -1.0), (norm.var, 0.1)),
    ):
      part[...] = jnp.asarray(draw.uniform(low, 1, part.shape), jnp.float32)
  model.eval()
  folded = fold(model)
  x = jnp.asarray(draw.normal(size=(3, 9, 8, 2)), jnp.float32)
  expected = jax.jit(model)(x)
  chex.assert_trees_all_close(
    jax.jit(folded)(x), expected, rtol=1e-5, atol=1e-5
  )
  chex.assert_trees_all_close(fold(folded)(x), expected, rtol=1e-5, atol=1e-5)
  text = str(jax.make_jaxpr(folded)(x))
  assert "rsqrt" not in text
  products = 1 + (least < 0) * 6
  assert text.count(" mul ") < products


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"width_multiplier": 0.0}, r"width_multiplier: 0.0 is not in \(0, 8\]"),
    ({"width_multiplier": 9.0}, "width_multiplier: 9.0"),
    ({"convolution": "depth"}, "convolution: 'depth' is none of"),
    ({"dtype": "int8"}, "dtype: 'int8'"),
    ({"input_shape": (7, 32, 3)}, "input_shape: .* 8 x 8"),
  ],
)
def test_refuses_the_impossible(arguments, message):
  with pytest.raises(ValueError, match=message):
    survey_cnn(**arguments)
