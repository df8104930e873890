"""Every operator against JAX, in ONNX Runtime."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import nnx
from jax import lax

from effarch.errors import UserError
from effarch.infrastructure.export import convert, onnx_graph
from effarch.infrastructure.export.onnx_operators import OPERATORS
from effarch.infrastructure.export.program import flat
from effarch.infrastructure.runtime import OnnxModel

WEIGHT = np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype(np.float32)
MATRIX = WEIGHT[0, 0]
BIAS = WEIGHT[0, 0, 0]


def convolved(x, kernel=WEIGHT, strides=(1, 1), padding="SAME", **options):
  return lax.conv_general_dilated(
    *(x, kernel, strides, padding),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    **options,
  )


def pooled(x, window, strides, padding="SAME", add=False):
  start, combine = (0.0, lax.add) if add else (-jnp.inf, lax.max)
  return lax.reduce_window(x, start, combine, window, strides, padding)


IMAGES = {
  "product of images": lambda x: x @ MATRIX + BIAS,
  "product of tokens": lambda x: x[:, 0] @ MATRIX + BIAS,
  "product of a vector": lambda x: x[:, 0, 0] @ MATRIX + BIAS,
  "product of two": lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x**2),
  "product over two axes": lambda x: jnp.einsum("bhwc,bvwc->bhv", x, x),
  "product from both sides": lambda x: jnp.einsum("bhwc,xc->xbhw", x, MATRIX.T),
  "outer product": lambda x: jnp.einsum("bhwc,bxyz->bhwcxyz", x, x[..., :2]),
  "read twice": lambda x: [y := x @ MATRIX, y + BIAS + jnp.tanh(y)][1],
  "convolution": lambda x: convolved(x) + BIAS,
  "convolution with strides": lambda x: convolved(x, strides=(2, 1)),
  "unequal padding": lambda x: convolved(x, padding=((0, 2), (3, 1))),
  "dilated": lambda x: convolved(x, rhs_dilation=(2, 1)),
  "depthwise": lambda x: convolved(
    x, WEIGHT[:, :, :1, :4], feature_group_count=4
  ),
  "in groups": lambda x: convolved(x, WEIGHT[:, :, :2], feature_group_count=2),
  "of one axis": lambda x: lax.conv_general_dilated(
    x[:, 0], WEIGHT[0], (2,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
  ),
  "channels first": lambda x: lax.conv_general_dilated(
    x.transpose(0, 3, 1, 2), WEIGHT.transpose(3, 2, 0, 1), (1, 1), "VALID"
  ),
  "of what is computed": lambda x: convolved(
    x, jnp.asarray(WEIGHT) * x[0, 0, 0, 0]
  ),
  "maximum pooling": lambda x: pooled(x, (1, 2, 3, 1), (1, 2, 1, 1)),
  "mean pooling": lambda x: pooled(x, (1, 2, 2, 1), (1, 2, 2, 1), add=True),
  "padded pooling": lambda x: pooled(
    x, (1, 3, 3, 1), (1, 1, 1, 1), ((0, 0), (1, 0), (0, 2), (0, 0)), add=True
  ),
  "pooling of channels": lambda x: pooled(x, (1, 1, 1, 2), (1, 1, 1, 2)),
  "one axis pooled": lambda x: pooled(x[:, 0], (1, 2, 1), (1, 2, 1)),
  "relu6": lambda x: jnp.minimum(jnp.maximum(x, 0), 6),
  "relu6 of what is read": lambda x: [
    y := jnp.maximum(x, 0),
    jnp.minimum(y, 0.5) + y,
  ][1],
  "bounds": lambda x: jnp.maximum(x, -0.3) + jnp.minimum(x, 0.2),
  "of two": lambda x: jnp.maximum(x, x[:, ::-1]) - jnp.minimum(x, BIAS[:4]),
  "clamp": lambda x: lax.clamp(-0.5, x, 0.25),
  "powers": lambda x: (
    jnp.square(x) + x**3 + jnp.abs(x) ** 0.7 + (x + 3.0) ** -2
  ),
  "roots": lambda x: jnp.sqrt(x + 1) + lax.rsqrt(x + 2),
  "exponentials": lambda x: jnp.exp(x) + jnp.log(x + 2) + jnp.log1p(x + 1),
  "squashed": lambda x: jnp.tanh(x) + jax.nn.sigmoid(x) + lax.erf(x),
  "smoothed": lambda x: jax.nn.gelu(x, approximate=False) + jax.nn.softplus(x),
  "waves": lambda x: jnp.sin(x) * jnp.cos(x) / (x + 2) - -x,
  "signs": lambda x: jnp.sign(x) + jnp.floor(x * 3) + jnp.ceil(x * 3),
  "to even": lambda x: lax.round(x * 6, lax.RoundingMethod.TO_NEAREST_EVEN),
  "compared": lambda x: jnp.where((x > 0.1) & ~(x >= 0.7) | (x < -0.5), x, 9),
  "equal": lambda x: jnp.where((x <= 0) != (x == x[:, :1]), x, 0),
  "sums": lambda x: x.sum((1, 2)) + x.max((1, 2)) - x.min(1)[:, 0],
  "multiplied": lambda x: x.prod(-1) + x.mean((-1, -2))[..., None],
  "softmax": lambda x: jax.nn.softmax(x, -1),
  "greatest": lambda x: x.argmax(2).astype(jnp.float32),
  "counted": lambda x: jnp.cumsum(x, 1) + lax.cumsum(x, 2, reverse=True),
  "broadcast": lambda x: jnp.broadcast_to(x[:, :, None], (1, 4, 2, 5, 4)),
  "with axes": lambda x: x.sum(2)[:, :, None, None] + x[..., None, :].sum(3),
  "moved": lambda x: x.transpose(0, 2, 3, 1).reshape(1, 20, -1),
  "cut": lambda x: jnp.concatenate([x[:, 1:3, ::2], x[:, :2, 2:]], axis=2),
  "split": lambda x: [a := jnp.split(x, [1, 3], axis=-1), a[1] * a[0] + a[2]][
    1
  ],
  "turned": lambda x: x[:, ::-1, :, ::-1] * 2,
  "padded": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (3, 0))),
  "padded and cut": lambda x: lax.pad(
    x, 1.5, ((0, 0, 0), (-1, 2, 0), (0, 0, 0), (1, -2, 0))
  ),
  "large constants": lambda x: x.sum() + jnp.zeros((300, 300)) * x[0, 0, 0, 0],
  "counting": lambda x: x.sum() + lax.iota(jnp.float32, 5000)[None, :],
}
TOKENS = {
  "embedding": lambda t: jnp.asarray(MATRIX)[t].reshape(1, -1),
  "embedding and copy": lambda t: jnp.copy(jnp.asarray(MATRIX)[t] * 2),
}


class Given(nnx.Module):
  """A function as a model."""

  def __init__(self, function):
    self.function = function

  def __call__(self, x):
    return self.function(x)


def given(name):
  if name in TOKENS:
    return TOKENS[name], np.array([[0, 3, 2, 2, 9, -1]], np.int32)
  x = np.random.default_rng(1).uniform(-1, 1, (1, 4, 5, 4))
  return IMAGES[name], x.astype(np.float32)


@pytest.mark.parametrize("name", [*IMAGES, *TOKENS])
def test_operators_compute_what_jax_computes(name):
  function, x = given(name)
  file = convert(Given(function), jax.eval_shape(jnp.asarray, x), "onnx")
  onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
  expected = np.asarray(function(jnp.asarray(x)))
  found = OnnxModel(file)._session.run(None, {"inputs": x})[0]
  assert found.dtype == expected.dtype
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_every_operator_is_tried():
  seen = {"composite"}  # Of quantized models, whose tests are elsewhere.
  for name in (*IMAGES, *TOKENS):
    function, x = given(name)
    program = flat(Given(function), jax.eval_shape(jnp.asarray, x))
    seen |= {equation.primitive.name for equation in program.eqns}
  assert OPERATORS.keys() - seen == set()


@pytest.mark.parametrize(
  ("function", "told"),
  [
    (lambda x: jnp.sort(x), "sort"),
    (lambda x: lax.fori_loop(0, 3, lambda _, x: x * 2, x), "scan"),
    (
      lambda x: convolved(x, padding=((1, 1), (1, 1)), lhs_dilation=(2, 2)),
      "transposed convolutions",
    ),
    (lambda x: convolved(x, padding=((-1, 1), (0, 0))), "negative padding"),
    (lambda x: lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1)) * 2), "between elements"),
    (lambda x: x[0, jnp.argmax(x[0, :, 0, 0])], "dynamic_slice|indexing"),
    (lambda x: pooled(x, (1, 1, 2, 1), (1, 2, 2, 1)), "pooling"),
  ],
)
def test_what_is_not_known_is_told_in_one_line(function, told):
  example = jax.ShapeDtypeStruct((1, 4, 5, 4), jnp.float32)
  with pytest.raises(UserError, match=f"ONNX: .*({told})") as error:
    convert(Given(function), example, "onnx")
  assert "\n" not in str(error.value)


def test_a_missing_package_is_told(monkeypatch):
  monkeypatch.setattr(onnx_graph, "onnx", None)
  example = jax.ShapeDtypeStruct((1, 4, 5, 4), jnp.float32)
  with pytest.raises(UserError, match=r"pip install effarch\[onnx\]"):
    convert(Given(IMAGES["relu6"]), example, "onnx")
