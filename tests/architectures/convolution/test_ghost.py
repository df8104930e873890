import functools

import jax
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution import GhostBottleneck, GhostConv
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 7, 5, 8))


@pytest.mark.parametrize(
  ("features", "parts", "kernel_size", "strides"),
  [(9, 2, (1, 1), 1), (12, 3, (3, 3), 2)],
)
def test_exam(features, parts, kernel_size, strides):
  made = -(-features // parts)
  cheap = (parts - 1) * made
  weights = kernel_size[0] * kernel_size[1] * 8 * made + 9 * cheap
  places = 35 if strides == 1 else 12
  check_block(
    functools.partial(
      *(GhostConv, 8, features, kernel_size), parts=parts, strides=strides
    ),
    X,
    (2, 7, 5, features) if strides == 1 else (2, 4, 3, features),
    params=weights + 2 * (made + cheap),
    macs=2 * places * weights,
  )


def ghost(start, end):
  """Parameters and MACs a place of a ghost convolution of even outputs."""
  weights = start * end // 2 + 9 * end // 2
  return weights + 2 * end, weights


@pytest.mark.parametrize(
  ("features", "strides", "squeezed"), [(8, 1, 0), (12, 2, 4)]
)
def test_exam_of_the_bottleneck(features, strides, squeezed):
  (first, first_macs), (last, last_macs) = ghost(8, 16), ghost(16, features)
  params, macs = first + last, 35 * first_macs
  if strides == 1:
    macs += 35 * last_macs
  else:
    shortcut = 9 * 8 + 8 * features
    params += 9 * 16 + 2 * 16 + shortcut + 2 * (8 + features)
    macs += 12 * (last_macs + 9 * 16 + shortcut)
    params += 2 * 16 * squeezed + squeezed + 16
    macs += 2 * 16 * squeezed
  check_block(
    functools.partial(
      *(GhostBottleneck, 8, features),
      strides=strides,
      squeezed_features=squeezed,
    ),
    X,
    (2, 7, 5, features) if strides == 1 else (2, 4, 3, features),
    params=params,
    macs=2 * macs,
  )


def test_ghosts_are_filters_of_what_the_convolution_made():
  layer = GhostConv(8, 7, activation="identity", rngs=nnx.Rngs(0))
  layer.eval()
  out = np.asarray(layer(X))
  np.testing.assert_allclose(out[..., :4], layer.primary(X), atol=1e-6)
  kernel = np.zeros((3, 3, 1, 4), np.float32)
  kernel[1, 2] = 2  # Twice the right neighbour.
  layer.cheap.conv.kernel[...] = kernel
  shifted = 2 * out[:, :, 1:, :3] / np.sqrt(1 + 1e-5)
  np.testing.assert_allclose(layer(X)[:, :, :-1, 4:], shifted, atol=1e-5)


def test_the_bottleneck_adds_its_input_or_a_shortcut():
  kept = GhostBottleneck(8, 8, rngs=nnx.Rngs(0))
  changed = GhostBottleneck(8, 12, strides=2, rngs=nnx.Rngs(0))
  for block in (kept, changed):
    block.eval()
    for part in (block.project.primary, block.project.cheap):
      part.norm.scale[...] *= 0
  np.testing.assert_array_equal(kept(X), X)
  shortcut = changed.shortcut[1](changed.shortcut[0](X))
  np.testing.assert_allclose(changed(X), shortcut, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 9])
def test_refuses_parts_that_cannot_be(parts):
  with pytest.raises(ValueError, match=f"parts: {parts} is not from 2 to 8"):
    GhostConv(8, 8, parts=parts, rngs=nnx.Rngs(0))
