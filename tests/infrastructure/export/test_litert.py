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
  quantize_int8,
  read_artifacts,
  ship,
  time_artifacts,
)
from effarch.infrastructure.runtime import (
  LiteRTModel,
  _dequantized,
  _quantized,
)
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


def test_int8_file_is_smaller_and_near(shipped):
  _, model, file = shipped
  inputs = np.asarray(decode(images(50, 0).inputs))
  quantized = quantize_int8(file, inputs)
  assert len(quantized) < 0.75 * len(file)
  small = LiteRTModel(quantized)
  assert small._inputs[0]["dtype"] == np.int8
  expected = np.asarray(model(jnp.asarray(inputs)))
  error = np.abs(small(inputs) - expected).mean()
  assert error < 0.1 * np.abs(expected).max()
  # Inputs beyond the calibrated range saturate and do not wrap around.
  bright = small(np.full((1, *SHAPE), 1e6, np.float32))
  limit = small(np.full((1, *SHAPE), 1.0, np.float32))
  np.testing.assert_allclose(bright, limit, atol=np.ptp(expected) / 5)


def test_calibration_looks_beyond_the_first_example(shipped):
  _, _, file = shipped
  calibration = np.zeros((20, *SHAPE), np.float32)
  calibration[:, 0], calibration[:, 1] = -1.0, 1.0
  calibration[0] /= 10
  scale, _ = LiteRTModel(quantize_int8(file, calibration))._inputs[0][
    "quantization"
  ]
  # The first alone gives 0.2; the ranges are moving averages.
  assert 1 < 255 * scale <= 2


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
  parts = {
    name: images(30, seed)
    for seed, name in enumerate(("train", "validation", "test"))
  }
  folder = RunFolder(tmp_path)
  rows = ship(model, folder, **parts, calibration_size=20)
  assert [row["precision"] for row in rows] == ["float32", "int8"]
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


def test_calibration_never_sees_other_than_training_images(tmp_path):
  """Other parts may change: the files stay the same to the byte."""
  model = lived_in("standard")
  files = []
  for seed in (1, 2):
    folder = RunFolder(tmp_path / str(seed))
    parts = {
      "train": images(30, 0),
      "validation": images(30, seed),
      "test": images(30, seed + 5),
    }
    ship(model, folder, **parts, calibration_size=20)
    files.append((folder.path / "artifacts/int8.tflite").read_bytes())
  assert files[0] == files[1]
