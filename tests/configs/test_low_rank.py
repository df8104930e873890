"""The config of structured layers: shares of parameters, and its errors."""

import pytest
from flax import nnx

from benchmarks import low_rank_quality
from configs.low_rank import mnist1d
from effarch.architectures.low_rank import STRUCTURES, StructuredLinear
from effarch.automation.trial import Trial
from effarch.errors import UserError


@pytest.mark.parametrize("name", STRUCTURES)
def test_all_have_the_share_of_parameters(name):
  runs = low_rank_quality.runs([name], [0])
  assert len(runs) == (2 if name == "hypercomplex" else 3)
  for run in runs:
    trial = Trial(run.config())
    (technique,) = trial.techniques
    model = technique.model(trial.model(), trial.source.example())
    layers = [
      module
      for _, module in nnx.iter_modules(model)
      if isinstance(module, StructuredLinear)
    ]
    assert len(layers) == 12
    for layer in layers:
      share = layer.structure.params(128, 128) / 128**2
      assert 0.7 < share / run.model["ratio"] <= 1.01


def test_unknown_structures_name_the_nearest():
  with pytest.raises(UserError, match="did you mean 'butterfly'"):
    mnist1d.get_config("buterfly")
  assert not mnist1d.get_config("dense").techniques
