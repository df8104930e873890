"""Files of every format answer as the rounded model, and are as small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.models import MODELS
from effarch.compression.quantize import Scheme, post_training
from effarch.infrastructure.export import FORMATS, convert
from effarch.infrastructure.runtime import RUNTIMES, OnnxModel
from tests.compression.quantize.nets import EXAMPLE, SHAPE, images, net, run

OTHERS = [name for name in FORMATS if name != "litert"]


def transformer():
  model = MODELS["vision_transformer"](
    SHAPE, 4, patch_size=4, features=16, depth=1, num_heads=2, rngs=nnx.Rngs(0)
  )
  model.eval()
  return model


@pytest.fixture(scope="module", params=[net, transformer])
def models(request):
  rounded = {
    kind: post_training(request.param(), [images()], weights=Scheme(kind))
    for kind in ("int8", "int4")
  }
  return request.param, {"float32": request.param(), **rounded}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_files_answer_as_the_model(models, kind, precision):
  model, x = models[1][precision], images(32, seed=1)
  expected = np.asarray(run(model, x))
  file = RUNTIMES[FORMATS[kind].suffix](convert(model, EXAMPLE, kind))
  found = file(np.asarray(x))
  most = np.abs(expected).max()
  if precision == "float32" or kind == "stablehlo":
    # The same arithmetic, but for the order of sums. Rounded, a number at the
    # edge of two steps can take the other.
    close = np.abs(found - expected) < 1e-5 * most
    assert close.mean() > 0.95
  # What computes in integers sums exactly.
  assert np.abs(found - expected).max() < 0.1 * most
  assert np.abs(found - expected).mean() < 0.01 * most


@pytest.mark.parametrize("kind", OTHERS)
def test_weights_are_stored_in_their_bits(kind):
  # One large layer, beside which names and scales are nothing.
  layer = nnx.Linear(256, 1024, use_bias=False, rngs=nnx.Rngs(0))
  example = jax.ShapeDtypeStruct((1, 256), jnp.float32)
  x = jax.random.normal(jax.random.key(0), (8, 256))
  for dtype, bits in (("int8", 8), ("int4", 4)):
    model = post_training(layer, [x], weights=Scheme(dtype, per="tensor"))
    size = len(convert(model, example, kind))
    assert 0 < size - 256 * 1024 * bits // 8 < 8000


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
  "scheme",
  [
    *(Scheme(dtype) for dtype in ("int8", "int4", "int2", "ternary", "binary")),
    *(Scheme("float8_e4m3fn"), Scheme("int4", per="tensor")),
    Scheme("int4", per=16),
  ],
  ids=lambda scheme: f"{scheme.dtype}-{scheme.per}",
)
def test_weights_alone_are_rounded_and_ship(kind, scheme):
  layer = nnx.Linear(48, 10, rngs=nnx.Rngs(1))
  x = jax.random.normal(jax.random.key(0), (8, 48))
  model = post_training(layer, [x], weights=scheme, activations=None)
  example = jax.ShapeDtypeStruct((1, 48), jnp.float32)
  file = RUNTIMES[FORMATS[kind].suffix](convert(model, example, kind))
  np.testing.assert_allclose(
    file(np.asarray(x)), np.asarray(run(model, x)), rtol=1e-5, atol=1e-5
  )


def test_onnx_computes_in_integers(models):
  """ONNX Runtime makes integer operators of what the file says."""
  made, rounded = models
  integers = {"QLinearConv", "QGemm", "QLinearAdd"}
  floats = {"ReduceSum"}
  if made is transformer:
    integers, floats = {"QLinearMatMul"}, {"Exp", "Reciprocal"}
  for precision in ("int8", "int4"):
    file = OnnxModel(convert(rounded[precision], EXAMPLE, "onnx"))
    assert integers <= set(file.operators())
    assert floats <= set(file.float_operators())
    assert not integers & set(file.float_operators())


def test_products_do_not_overflow():
  # 64 products of 255 and 127, of which two overflow 16 bits.
  layer = nnx.Linear(64, 4, rngs=nnx.Rngs(0))
  layer.kernel[...] = jnp.ones((64, 4))
  x = jnp.ones((2, 64))
  model = post_training(layer, [x, -x])
  example = jax.ShapeDtypeStruct((1, 64), jnp.float32)
  file = RUNTIMES[".onnx"](convert(model, example, "onnx"))
  np.testing.assert_allclose(
    file(np.asarray(x)), np.asarray(run(model, x)), rtol=1e-6
  )
