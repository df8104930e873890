"""Mutants that the exam of blocks must fail, each for its own reason."""

import jax
import pytest

from effarch.architectures.convolution import ConvNorm
from effarch.testing import check_block

X = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))


class Forgetful(ConvNorm):
  """Folds, and loses the offset."""

  def fold(self):
    super().fold()
    self.conv.bias[...] *= 0


class Frozen(ConvNorm):
  """Never moves its statistics."""

  def __init__(self, *sizes, **arguments):
    super().__init__(*sizes, **arguments)
    self.norm.momentum = 1.0


class Unfolded(ConvNorm):
  """Has a normalization, and keeps it."""

  def fold(self):
    pass


@pytest.mark.parametrize(
  ("mutant", "message"),
  [
    (Forgetful, "folded, it answers otherwise"),
    (Frozen, "a normalization does not learn"),
    (Unfolded, "2 statistics are left after folding"),
  ],
)
def test_exam_fails_mutants(mutant, message, quick_compilation):
  def make(**arguments):
    return mutant(4, 6, **arguments)

  weights = 9 * 4 * 6
  with pytest.raises(AssertionError, match=message):
    check_block(
      make, X, (2, 5, 3, 6), params=weights + 12, macs=2 * 15 * weights
    )
