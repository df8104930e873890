"""Patches of images as tokens."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.models import Encoder, VisionTransformer
from effarch.testing import check_layer

H, W, D, C, F, K = 8, 12, 3, 16, 24, 5
SMALL = {"features": C, "num_heads": 2, "hidden_features": F}


def images(batch=2, shape=(H, W, D)):
  return jax.random.normal(jax.random.key(0), (batch, *shape))


def vision_transformer(size=4, shape=(H, W, D), **arguments):
  model = VisionTransformer(
    *(shape, K), **{**SMALL, **arguments}, patch_size=size, rngs=nnx.Rngs(0)
  )
  model.eval()
  return model


def test_exam():
  size = 4
  number = H * W // size**2
  inputs = size**2 * D
  layer = 4 * C**2 + 3 * C * F
  params = inputs * C + C + number * C + 2 * (layer + 2 * C) + C + C * K + K
  macs = number * inputs * C + C * K
  macs += 2 * (number * layer + 2 * number**2 * C)

  def make(dtype, rngs):
    dtype = jnp.dtype(dtype).name
    return VisionTransformer((H, W, D), K, **SMALL, dtype=dtype, rngs=rngs)

  check_layer(make, images(), (2, K), params=params, macs=2 * macs)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_patches_are_those_of_a_strided_convolution(size, monkeypatch):
  model = vision_transformer(size)
  x = images()
  kernel = model.embedding.kernel[...]
  convolved = jax.lax.conv_general_dilated(
    *(x, kernel.reshape(size, size, D, C), (size, size), "VALID"),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  convolved = convolved + model.embedding.bias[...]
  # In rows, from left to right, and then down.
  tokens = convolved.reshape(len(x), -1, C) + model.places.embedding[...]
  seen = []

  def embed(self, x, start=0):
    seen.append(before(self, x, start))
    return seen[-1]

  before = VisionTransformer.embed
  monkeypatch.setattr(VisionTransformer, "embed", embed)
  logits = model(x)
  (found,) = seen
  assert found.shape == (2, H * W // size**2, C)
  chex.assert_trees_all_close(found, tokens, atol=1e-5)
  # What follows is the encoder's.
  vectors = model.encode(tokens).mean(1)
  wanted = vectors @ model.classifier.kernel[...] + model.classifier.bias[...]
  chex.assert_trees_all_close(logits, wanted, atol=1e-5)


def test_it_is_an_encoder_of_its_patches():
  model = vision_transformer(4)
  encoder = Encoder((6, 48), K, **SMALL, rngs=nnx.Rngs(0))
  encoder.eval()
  chex.assert_trees_all_equal(nnx.state(model), nnx.state(encoder))
  x = np.asarray(images())
  patches = [
    x[:, top : top + 4, left : left + 4].reshape(len(x), -1)
    for top in range(0, H, 4)
    for left in range(0, W, 4)
  ]
  wanted = encoder(jnp.asarray(np.stack(patches, 1)))
  chex.assert_trees_all_close(model(jnp.asarray(x)), wanted, atol=1e-5)


def test_where_a_patch_is_matters():
  model = vision_transformer(4)
  x = images()
  for axis in (1, 2):
    moved = abs(model(jnp.roll(x, 4, axis)) - model(x)).max()
    assert float(moved) > 1e-3
  blind = vision_transformer(4, positions="none")
  rolled = blind(jnp.roll(x, (4, 4), (1, 2)))
  chex.assert_trees_all_close(rolled, blind(x), atol=1e-5)


def test_logits_are_float32():
  model = vision_transformer(4, dtype="bfloat16")
  assert model(images()).dtype == jnp.float32
  for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize(
  ("size", "shape"),
  [(5, (8, 12, 3)), (4, (8, 10, 3)), (4, (10, 8, 3)), (0, (8, 8, 3))],
)
def test_patches_that_do_not_fit_are_refused(size, shape):
  message = f"^patch_size: {size} divides not {shape[0]} x {shape[1]} pixels$"
  with pytest.raises(ValueError, match=message):
    vision_transformer(size, shape)


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8, 3)])
def test_what_is_no_image_is_refused(shape):
  with pytest.raises(ValueError, match=r"^input_shape: .* is not H W D$"):
    vision_transformer(4, shape)
