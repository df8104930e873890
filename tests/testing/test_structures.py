"""Mutants that the exam of structured layers must fail, each for its reason."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from effarch.architectures.low_rank import ACDC, LowRank, StructuredLinear
from effarch.testing import check_structured

X = jax.random.normal(jax.random.key(0), (2, 6))


class Off(LowRank):
  """Multiplies by another matrix than it tells."""

  def apply(self, factors, x, o):
    return 1.001 * super().apply(factors, x, o)


class HalfDeaf(LowRank):
  """Learns half as fast as it should."""

  def apply(self, factors, x, o):
    down = factors["down"]
    down = (down + lax.stop_gradient(down)) / 2
    return super().apply({**factors, "down": down}, x, o)


@pytest.mark.parametrize(
  ("structure", "ships", "message"),
  [
    (Off(rank=2), True, "it is not what its matrix is"),
    (HalfDeaf(rank=2), True, r"gradient of \['factors'\]\['down'\]"),
    (LowRank(rank=2), False, "LiteRT takes it"),
    (ACDC(stages=1), True, "LiteRT refuses it"),
  ],
)
def test_exam_fails_mutants(structure, ships, message, quick_compilation):
  def make(**arguments):
    return StructuredLinear(6, 4, structure, **arguments)

  params, macs = structure.params(6, 4) + 4, structure.macs(6, 4, 2)
  costs = {"params": params, "macs": macs}
  with pytest.raises(AssertionError, match=message):
    check_structured(make, jnp.matmul, X, (2, 4), **costs, ships=ships)
