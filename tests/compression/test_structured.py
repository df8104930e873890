"""Structured layers by config."""

import jax
import pytest
from flax import nnx

from effarch.architectures.low_rank import Monarch, StructuredLinear
from effarch.compression import Structured
from effarch.errors import UserError

EXAMPLE = jax.ShapeDtypeStruct((1, 8), "float32")


def pair():
  return nnx.List([nnx.Linear(8, 8, rngs=nnx.Rngs(n)) for n in range(2)])


def test_a_config_chooses_structure_and_place():
  technique = Structured(
    structure={"name": "monarch", "rank": 1, "blocks": 2}, where="1", seed=3
  )
  assert technique.structure == Monarch(rank=1, blocks=2)
  model = technique.model(pair(), EXAMPLE)
  assert isinstance(model[0], nnx.Linear)
  assert isinstance(model[1], StructuredLinear)
  again = technique.model(pair(), EXAMPLE)
  assert (model[1].to_dense() == again[1].to_dense()).all()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"structure": {"name": "monarc", "rank": 1}},
      "config.techniques.structure.name: 'monarc' is unknown; did you mean",
    ),
    (
      {"structure": {"name": "low_rank"}},
      "config.techniques.structure.rank: give either it or params_ratio",
    ),
    ({"where": "2"}, "config.techniques.where: '2' is no layer's path"),
    (
      {"structure": {"name": "low_rank", "params_ratio": 0.01}},
      "config.techniques.where: none of .* could be replaced: params_ratio",
    ),
  ],
)
def test_what_cannot_be_is_told(arguments, message):
  with pytest.raises(UserError, match=message):
    Structured(**arguments).model(pair(), EXAMPLE)
