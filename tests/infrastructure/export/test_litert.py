"""Files are run in their own runtime and compared with the JAX model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.models import MODELS
from effarch.infrastructure.data import Dataset, decode
from effarch.infrastructure.export import (
  convert,
  read_artifacts,
  ship,
  time_artifacts,
)
from effarch.infrastructure.runtime import LiteRTModel
from effarch.infrastructure.runtime.litert import _dequantized, _quantized
from effarch.infrastructure.training import RunFolder

# Three channels: of one alone, any convolution is a depthwise one.
SHAPE = (8, 8, 3)


def lived_in(convolution: str) -> nnx.Module:
  """A model whose BatchNorm statistics are no longer the initial ones."""
  model = MODELS["survey_cnn"](
    SHAPE,
    10,
    width_multiplier=0.1,
    convolution=convolution,
    rngs=nnx.Rngs(0),
  )
  model.train()
  for seed in range(3):
    model(jax.random.uniform(jax.random.key(seed), (16, *SHAPE), minval=-1))
  model.eval()
  return model


def images(size: int, seed: int) -> Dataset:
  generator = np.random.default_rng(seed)
  return Dataset(
    generator.integers(0, 256, (size, *SHAPE)).astype(np.uint8),
    generator.integers(0, 10, size).astype(np.int32),
    tuple("0123456789"),
  )


@pytest.fixture(scope="module", params=["standard", "separable"])
def shipped(request):
  model = lived_in(request.param)
  return (
    request.param,
    model,
    convert(model, jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)),
  )


def test_float_file_computes_what_jax_computes(shipped):
  _, model, file = shipped
  inputs = np.asarray(decode(images(20, 0).inputs))
  expected = np.asarray(model(jnp.asarray(inputs)))
  answer = LiteRTModel(file)(inputs)
  np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_separable_model_holds_real_depthwise_convolutions(shipped):
  name, _, file = shipped
  operators = LiteRTModel(file).operators()
  # Mixing channels is a matrix product, beside those of the two dense layers.
  separable = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 7}
  standard = {"CONV_2D": 6, "DEPTHWISE_CONV_2D": 0, "FULLY_CONNECTED": 2}
  for operator, number in (
    separable if name == "separable" else standard
  ).items():
    assert operators.count(operator) == number


def test_quantization_rounds_shifts_and_saturates():
  tensor = {"dtype": np.int8, "quantization": (0.5, 3)}
  floats = np.array([-1.3, -0.7, 0, 0.7, 1.3], np.float32)
  np.testing.assert_array_equal(_quantized(floats, tensor), [0, 2, 3, 4, 6])
  ends = np.array([-1e6, -66, -65.5, 62, 62.5, 1e6], np.float32)
  whole = _quantized(ends, tensor)
  assert whole.dtype == np.int8
  np.testing.assert_array_equal(whole, [-128] * 3 + [127] * 3)
  np.testing.assert_array_equal(
    _dequantized(np.array([-128, 3, 127], np.int8), tensor), [-65.5, 0, 62]
  )
  every = np.arange(-128, 128).astype(np.int8)
  back = _quantized(_dequantized(every, tensor), tensor)
  np.testing.assert_array_equal(back, every)


def test_ship_records_what_the_files_reach(shipped, tmp_path, monkeypatch):
  _, model, _ = shipped
  parts = {"validation": images(30, 1), "test": images(30, 2)}
  folder = RunFolder(tmp_path)
  models = dict.fromkeys(("one", "other"), model)
  rows = ship(models.items(), folder, **parts)
  assert [row["precision"] for row in rows] == list(models)
  for row in rows:
    file = tmp_path / row["file"]
    assert row["size_bytes"] == file.stat().st_size
    runtime = LiteRTModel(file)
    for column, part in (
      ("accuracy", "test"),
      ("validation_accuracy", "validation"),
    ):
      logits = runtime(np.asarray(decode(parts[part].inputs)))
      right = np.mean(logits.argmax(-1) == parts[part].labels)
      assert row[column] == right
  assert rows[0]["differs"] == 0
  assert rows[0]["accuracy"] == rows[0]["jax_accuracy"]
  assert {r["precision"]: r for r in read_artifacts(folder)} == {
    r["precision"]: r for r in rows
  }

  time_artifacts([folder])
  timed = read_artifacts(folder)
  for row in timed:
    assert 0 < row["latency_us"] <= row["latency_p90_us"]
    assert row["latency_p90_us"] <= row["latency_p99_us"]
  # Measured once, kept: nothing is timed again.
  time_artifacts([folder])
  assert read_artifacts(folder) == timed
