"""Predictions from several views, against a loop over them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.learning.views import TestTimeAugmentation as Views

IMAGES = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))


class Net(nnx.Module):
  def __init__(self):
    self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    self.out = nnx.Linear(60, 3, rngs=nnx.Rngs(1))

  def __call__(self, x):
    return jnp.tanh(self.out(self.dropout(x.reshape(len(x), -1))))


def moved(image, down, right):
  """An image moved by pixels, black coming in."""
  result = np.full_like(image, -1.0)
  height, width, _ = image.shape
  for i in range(height):
    for j in range(width):
      if 0 <= i - down < height and 0 <= j - right < width:
        result[i, j] = image[i - down, j - right]
  return result


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 2])
def test_logits_are_the_mean_over_views(flip, shift):
  net = Net()
  net.eval()
  found = Views(flip, shift).finish(net)(IMAGES)
  for image, logits in zip(np.asarray(IMAGES), found, strict=True):
    ways = {(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)}
    views = [moved(image, *way) for way in ways]
    if flip:
      views += [view[:, ::-1] for view in views]
    each = [net(jnp.asarray(view[None]))[0] for view in views]
    np.testing.assert_allclose(logits, np.mean(each, 0), atol=1e-6)


def test_off_is_absent_and_what_ships_is_in_evaluation():
  net = Net()
  assert Views(horizontal_flip=False).finish(net) is net
  model = Views().finish(net)
  chex.assert_trees_all_equal(model(IMAGES), model(IMAGES))


def test_refuses_the_impossible():
  with pytest.raises(ValueError, match="shift"):
    Views(shift=-1)
