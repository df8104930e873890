"""AutoAugment's policy for CIFAR-10 (arXiv:1805.09501, table 7)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from effarch.infrastructure.training import Batch, Technique
from effarch.learning.augment import levels
from effarch.learning.augment.inputs import floats
from effarch.learning.augment.operations import (
  OPERATIONS,
  Ranges,
  operate,
)

Images = Float[Array, "B H W C"]
# Pairs of an operation, its probability and its magnitude in [0, 9].
POLICY = (
  (("invert", 0.1, 7), ("contrast", 0.2, 6)),
  (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
  (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
  (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
  (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
  (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
  (("saturation", 0.4, 3), ("brightness", 0.6, 7)),
  (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
  (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
  (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
  (("saturation", 0.7, 7), ("translate_x", 0.5, 8)),
  (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
  (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
  (("brightness", 0.9, 6), ("saturation", 0.2, 8)),
  (("solarize", 0.5, 2), ("invert", 0.0, 3)),
  (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
  (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
  (("saturation", 0.9, 9), ("equalize", 0.6, 6)),
  (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
  (("brightness", 0.1, 3), ("saturation", 0.7, 0)),
  (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
  (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
  (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
  (("equalize", 0.8, 8), ("invert", 0.1, 3)),
  (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)
_MOST = 9
_GREY = 128
_WITH_DIRECTION = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_BLENDS = ("brightness", "contrast", "saturation", "sharpness")
_NAMES = np.array([[OPERATIONS.index(n) for n, *_ in row] for row in POLICY])
_CHANCES = np.array([[chance for _, chance, _ in row] for row in POLICY])
# A blend's magnitudes lead from factor 0.1 to 1.9: none is 0, 4.5 is.
_STRENGTHS = np.array(
  [
    [2 * m / _MOST - 1 if n in _BLENDS else m / _MOST for n, _, m in row]
    for row in POLICY
  ]
)
_SIGNED = np.array([[n in _WITH_DIRECTION for n, *_ in row] for row in POLICY])


def auto_augment(images: Images, rng: Key[Array, ""]) -> Images:
  """Gives each image one of the policy's 25 pairs of operations.

  Args:
    images: in [-1, 1], of 1 or 3 channels.
    rng: of pairs, of whether each is done, and of directions.
  """
  pair_rng, chance_rng, sign_rng = jax.random.split(rng, 3)
  pair = jax.random.randint(pair_rng, (len(images),), 0, len(POLICY))
  done = jax.random.uniform(chance_rng, (len(images), 2))
  sign = jax.random.rademacher(sign_rng, (len(images), 2), float)
  name, chance, strength, signed = (
    jnp.asarray(table)[pair]
    for table in (_NAMES, _CHANCES, _STRENGTHS, _SIGNED)
  )
  operation = jnp.where(done < chance, name, 0)
  strength = strength.astype(jnp.float32) * jnp.where(signed, sign, 1)
  found = levels.encode(images)
  found = operate(found, operation.T, strength.T, Ranges(), _GREY)
  return levels.decode(found, images.dtype)


@dataclasses.dataclass(frozen=True)
class AutoAugment(Technique):
  """AutoAugment's policy for CIFAR-10 (arXiv:1805.09501).

  Translations are at most 10 pixels, and what leaves an image makes room for
  grey, as in the authors' code.
  """

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    images = auto_augment(floats(self, batch, "images"), rng)
    return {**batch, "inputs": images}
