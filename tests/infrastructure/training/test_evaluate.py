import numpy as np
import optax
import pytest
from flax import nnx

from effarch.infrastructure.data import Dataset
from effarch.infrastructure.training import evaluate

generator = np.random.default_rng(0)
DATA = Dataset(
  generator.normal(size=(21, 8)).astype(np.float32),
  generator.integers(0, 2, 21).astype(np.int32),
  ("left", "right"),
)


@pytest.mark.parametrize("batch_size", [1, 4, 21, 50])
def test_evaluation_is_exact_whatever_the_batch_size(batch_size):
  model = nnx.Linear(8, 2, rngs=nnx.Rngs(0))
  logits = np.asarray(model(DATA.inputs))
  right = np.mean(np.argmax(logits, -1) == DATA.labels)
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, DATA.labels)
  means = evaluate(model, DATA, batch_size=batch_size)
  assert means["accuracy"] == pytest.approx(right, abs=1e-12)
  assert means["loss"] == pytest.approx(float(loss.mean()), rel=1e-5)
