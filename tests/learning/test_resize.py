"""Small images first: sizes, stages, and gradients of each."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.models import CifarResNet, SurveyCNN
from effarch.errors import UserError
from effarch.learning.resize import ProgressiveResizing

IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 12, 1))
EXAMPLE = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)


def gradient_fn(params, batch):
  """Shows the size and the content that it sees."""
  _, height, width, _ = batch["inputs"].shape
  size = jnp.array([height, width], jnp.float32)
  return {"w": batch["inputs"].mean() * params["w"]}, (params, {"size": size})


@pytest.mark.parametrize(
  ("progress", "size"),
  [
    *((0.0, (4, 6)), (0.24, (4, 6)), (0.26, (6, 9)), (0.49, (6, 9))),
    *((0.5, (8, 12)), (0.99, (8, 12))),
  ],
)
def test_sizes_grow_in_equal_stages(progress, size):
  technique = ProgressiveResizing(0.5, stages=2, until=0.5)
  params = {"w": jnp.float32(2.0)}
  batch = {"inputs": IMAGES, "progress": jnp.float32(progress)}
  gradients, (_, told) = jax.jit(technique.gradient(gradient_fn))(params, batch)
  np.testing.assert_array_equal(told["size"], size)
  small = jax.image.resize(IMAGES, (2, *size, 1), "linear")
  assert gradients["w"] == pytest.approx(2 * float(small.mean()), rel=1e-4)


def test_half_the_size_is_a_mean_over_neighbours():
  """What `linear` gives inside an image, written out."""
  row = jnp.arange(8.0) ** 2
  small = jax.image.resize(row[None, None, :, None], (1, 1, 4, 1), "linear")
  expected = [np.array([1, 3, 3, 1]) @ row[i - 1 : i + 3] / 8 for i in (2, 4)]
  np.testing.assert_allclose(small[0, 0, 1:3, 0], expected, rtol=1e-5)


def test_off_is_absent():
  technique = ProgressiveResizing(first=1.0)
  assert technique.gradient(gradient_fn) is gradient_fn


def test_the_model_must_take_images_of_any_size():
  any_size = CifarResNet((16, 16, 3), 2, blocks=1, rngs=nnx.Rngs(0))
  before = nnx.state(any_size)
  assert ProgressiveResizing().model(any_size, EXAMPLE) is any_size
  chex.assert_trees_all_equal(nnx.state(any_size), before)
  one_size = SurveyCNN((16, 16, 3), 2, width_multiplier=0.1, rngs=nnx.Rngs(0))
  with pytest.raises(UserError, match="no images of 8 x 8"):
    ProgressiveResizing().model(one_size, EXAMPLE)
  tokens = jax.ShapeDtypeStruct((1, 16), jnp.int32)
  with pytest.raises(UserError, match="of images"):
    ProgressiveResizing().model(one_size, tokens)


@pytest.mark.parametrize(
  "arguments", [{"first": 0.0}, {"stages": 0}, {"until": 0.0}]
)
def test_refuses_the_impossible(arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    ProgressiveResizing(**arguments)
