"""Files are run by their path, whatever their inputs are."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import nnx
from onnx import TensorProto, helper

from effarch.compression.quantize import post_training
from effarch.errors import UserError
from effarch.infrastructure.cost import latency
from effarch.infrastructure.export import convert
from effarch.infrastructure.runtime import LiteRTModel, inference


class Dense(nnx.Module):
  def __init__(self, rngs):
    self.dense = nnx.Linear(6, 3, rngs=rngs)

  def __call__(self, x):
    return self.dense(x)


@pytest.fixture(scope="module")
def litert():
  model, shape = Dense(nnx.Rngs(0)), jax.ShapeDtypeStruct((1, 6), jnp.float32)
  examples = jax.random.uniform(jax.random.key(0), (8, 6), minval=-1)
  quantized = post_training(model, [examples])
  return {"float32": convert(model, shape), "int8": convert(quantized, shape)}


def onnx_file(path, dtype, shape):
  """A graph that multiplies its two inputs."""
  inputs = [helper.make_tensor_value_info(n, dtype, shape) for n in "ab"]
  out = helper.make_tensor_value_info("out", dtype, None)
  nodes = [helper.make_node("Mul", ["a", "b"], ["out"])]
  graph = helper.make_graph(nodes, "graph", inputs, [out])
  model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
  model.ir_version = 9
  onnx.save(model, path)
  return path


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_litert_file_runs_and_is_timed(litert, precision, tmp_path):
  path = tmp_path / "model.tflite"
  path.write_bytes(litert[precision])
  inference(path)()
  found = latency(str(path), calls=20)
  assert 0 < found.low_us <= found.p50_us <= found.high_us
  assert found.calls == 20


@pytest.mark.parametrize(
  ("dtype", "shape"),
  [
    (TensorProto.FLOAT, [2, 3]),
    (TensorProto.FLOAT16, ["batch", 3]),
    (TensorProto.INT64, [None, "length"]),
    (TensorProto.DOUBLE, []),
  ],
)
def test_onnx_file_runs_with_its_open_axes_at_one(dtype, shape, tmp_path):
  path = onnx_file(tmp_path / "model.onnx", dtype, shape)
  (out,) = inference(path)()
  sizes = [size if isinstance(size, int) else 1 for size in shape]
  assert out.shape == tuple(sizes)
  assert latency(path, calls=8).p50_us > 0


def test_onnx_runs_each_time_on_one_thread(monkeypatch, tmp_path):
  sessions, runs = [], []

  class Session(onnxruntime.InferenceSession):
    def __init__(self, path, options, **kwargs):
      super().__init__(path, options, **kwargs)
      sessions.append(options)

    def run(self, outputs, inputs):
      runs.append(inputs)
      return super().run(outputs, inputs)

  monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
  call = inference(onnx_file(tmp_path / "model.onnx", TensorProto.FLOAT, [2]))
  for _ in range(3):
    call()
  assert len(runs) == 3
  (options,) = sessions
  assert options.intra_op_num_threads == options.inter_op_num_threads == 1


@pytest.mark.parametrize("name", ["no.tflite", "no.onnx", "no.stablehlo"])
def test_missing_and_damaged_files_are_named(name, tmp_path):
  path = tmp_path / name
  with pytest.raises(UserError, match=rf"{name}: there is no such file"):
    latency(path)
  path.write_bytes(b"no model at all")
  with pytest.raises(UserError, match=rf"{name}: \w+.* can't read it") as error:
    latency(path)
  assert "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path):
  path = tmp_path / "model.pt"
  path.touch()
  with pytest.raises(UserError, match=r"model\.pt: no \.onnx, .*\.tflite file"):
    latency(path)


def test_missing_onnx_runtime_is_told(monkeypatch, tmp_path):
  path = onnx_file(tmp_path / "model.onnx", TensorProto.FLOAT, [2])
  monkeypatch.setattr("effarch.infrastructure.runtime.onnx.onnxruntime", None)
  with pytest.raises(UserError, match="pip install onnxruntime"):
    inference(path)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_litert_runs_on_values_that_fill_its_range(litert, precision):
  model = LiteRTModel(litert[precision])
  (tensor,) = model._inputs
  call = model.inference()
  given = model._interpreter.get_tensor(tensor["index"])
  assert given.std() > 0
  call()
  out = model._interpreter.get_tensor(model._output["index"])
  floats = model(np.linspace(-1, 1, 6, dtype=np.float32)[None])
  # Its own run, and no more of the one before.
  assert np.abs(out.astype(float)).max() > 0
  assert floats.shape == (1, 3)


def test_home_folder_is_found(litert, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "model.tflite").write_bytes(litert["float32"])
  inference("~/model.tflite")()
