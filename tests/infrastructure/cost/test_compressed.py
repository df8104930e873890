"""What zeros and bit widths change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from effarch.architectures.models import SurveyCNN
from effarch.infrastructure.cost import measure

X = jnp.ones((5, 4))


def sparse(shape, zeros, seed=0):
  """Ones, and as many zeros at random places."""
  flat = np.ones(int(np.prod(shape)), np.float32)
  places = np.random.default_rng(seed).permutation(flat.size)[:zeros]
  flat[places] = 0
  return jnp.asarray(flat.reshape(shape))


@settings(max_examples=20)
@given(st.integers(0, 24))
def test_dense_products_with_zeros_are_left_out(zeros):
  w = sparse((4, 6), zeros)
  report = measure(lambda w, x: x @ w, X, variables=w)
  assert report.macs == 5 * 24
  assert report.effective_macs == 5 * (24 - zeros)
  turned = measure(lambda w, x: (w.T @ x.T).T, X, variables=w)
  assert turned.effective_macs == report.effective_macs


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("zeros", [0, 7, 36])
def test_convolution_meets_each_weight_at_each_pixel(groups, zeros):
  def convolve(w, x):
    return jax.lax.conv_general_dilated(
      x,
      w,
      (2, 2),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=groups,
    )

  w = sparse((3, 3, 4 // groups, 8), zeros)
  report = measure(convolve, jnp.ones((2, 6, 6, 4)), variables=w)
  assert report.effective_macs == 2 * 3 * 3 * (w.size - zeros)


@pytest.mark.parametrize(
  "made",
  [
    lambda v: v["w"] * v["mask"],
    lambda v: jnp.where(v["mask"] > 0, v["w"], 0).astype(jnp.bfloat16),
    lambda v: jax.jit(lambda w, m: (w * m)[:, ::-1])(v["w"], v["mask"]),
    lambda v: (v["w"] * v["mask"]).reshape(2, 2, 6).reshape(4, 6),
    lambda v: v["u"] @ jnp.ones((1, 6)) * v["mask"],
  ],
)
def test_weights_that_are_computed_from_others(made):
  mask = sparse((4, 6), 9)
  variables = {"w": jnp.full((4, 6), 2.0), "mask": mask, "u": jnp.ones((4, 1))}
  report = measure(
    lambda v, x: x.astype(made(v).dtype) @ made(v), X, variables=variables
  )
  own = report.macs - 5 * 24  # Of the weight itself
  assert report.effective_macs == 5 * (24 - 9) + own


def test_stacked_weights_in_a_scan_each_have_their_zeros():
  w = jnp.stack([sparse((4, 4), zeros, zeros) for zeros in (0, 3, 16)])

  def loop(w, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

  report = measure(loop, X, variables=w)
  assert (report.macs, report.effective_macs) == (5 * 48, 5 * (16 + 13))
  shared = measure(
    lambda w, x: jax.lax.fori_loop(0, 7, lambda _, x: x @ w, x),
    X,
    variables=w[1],
  )
  assert shared.effective_macs == 7 * 5 * 13


def test_zeros_of_activations_do_not_count():
  def zero(x):
    return jnp.zeros_like(x) @ jnp.ones((4, 4))

  found = measure(lambda w, x: zero(x) @ w, X, variables=jnp.ones((4, 4)))
  assert found.effective_macs == found.macs


def test_shapes_have_no_zeros():
  w = jax.ShapeDtypeStruct((4, 6), jnp.float32)
  report = measure(lambda w, x: x @ w, X, variables=w)
  assert report.effective_macs == report.macs


class Net(nnx.Module):
  def __init__(self, rngs):
    self.first = nnx.Linear(4, 8, rngs=rngs)
    self.head = nnx.Linear(8, 2, rngs=rngs)

  def __call__(self, x):
    return self.head(nnx.relu(self.first(x)))


def test_pruned_model_says_so_in_its_table():
  model = Net(nnx.Rngs(0))
  dense = measure(model, X)
  model.first.kernel[...] = model.first.kernel[...].at[:, ::2].set(0)
  report = measure(model, X)
  assert report.macs == dense.macs == 5 * (32 + 16)
  assert report.effective_macs == 5 * (16 + 16)
  assert report.by_module["first"].effective_macs == 5 * 16
  assert "nonzero MACs" in str(report)
  assert "nonzero MACs" not in str(dense)
  step = measure(model, X, train=True)
  # Forward and the gradients of activations skip zeros, weights' do not; the
  # first layer's input has none.
  assert step.effective_macs == 5 * (16 + 16) + 5 * 16 + 5 * (32 + 16)


def test_bits_of_types():
  for dtype, bits in (
    (jnp.float32, 32),
    (jnp.bfloat16, 16),
    (jnp.int8, 8),
    (jnp.int4, 4),
    (jnp.float8_e4m3fn, 8),
    (jnp.float4_e2m1fn, 4),
  ):
    arrays = (jax.ShapeDtypeStruct((4, 4), dtype) for _ in range(2))
    report = measure(jnp.matmul, *arrays)
    assert report.bit_operations == 64 * bits * bits
  mixed = measure(
    lambda w, x: x @ w.astype(jnp.float32),
    X,
    variables=jax.ShapeDtypeStruct((4, 4), jnp.int8),
  )
  # What is multiplied counts, not what is stored.
  assert mixed.bit_operations == 5 * 16 * 32 * 32
  assert mixed.stored_bytes == mixed.size_bytes == 16


def test_given_bits_make_bit_operations_and_stored_bytes():
  model = Net(nnx.Rngs(0))
  first, head = 5 * 32, 5 * 16

  def found(bits):
    report = measure(model, X, bits=bits)
    assert report.macs == first + head
    assert report.size_bytes == 4 * (32 + 8 + 16 + 2)
    return report.bit_operations, report.stored_bytes

  biases = 4 * (8 + 2)  # Stay what they are.
  assert found({"*": (8, 4)}) == ((first + head) * 32, 48 + biases)
  # The last that matches counts; others keep their types.
  assert found({"*": (2, 8), "head": (4, 16)}) == (
    first * 16 + head * 64,
    32 // 4 + 16 // 2 + biases,
  )
  assert found({"fir*": (8, 8)}) == (
    first * 64 + head * 1024,
    32 + 4 * 16 + biases,
  )
  table = str(measure(model, X, bits={"*": (8, 8)}))
  assert "BOPs" in table
  assert "stored" in table


def test_odd_bits_are_rounded_up_to_bytes_for_each_weight():
  w = {"a": jnp.ones((3, 3)), "b": jnp.ones((1, 3))}
  report = measure(
    lambda w, x: x @ w["b"].T @ w["b"] @ w["a"],
    jnp.ones((1, 3)),
    variables=w,
    bits={"*": (3, 3)},
  )
  assert report.stored_bytes == 4 + 2  # 27 and 9 bits


def test_quantized_model_is_a_quarter_of_its_weights():
  model = nnx.eval_shape(lambda: SurveyCNN((32, 32, 3), 10, rngs=nnx.Rngs(0)))
  x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  plain = measure(model, x)
  small = measure(model, x, bits={"*": (8, 8)})
  assert 16 * small.bit_operations == plain.bit_operations
  params = jax.tree.leaves(nnx.state(model, nnx.Param))
  weights = sum(leaf.size for leaf in params if leaf.ndim > 1)
  assert plain.stored_bytes - small.stored_bytes == 3 * weights
  assert 0.99 * plain.params < weights < plain.params


def test_weights_that_a_function_holds_have_zeros_too():
  w = sparse((4, 6), 7)
  assert measure(lambda x: x @ w, X).effective_macs == 5 * (24 - 7)


@pytest.mark.parametrize("loop", ["scan", "while"])
def test_weights_that_a_loop_changes_are_not_known(loop):
  def turn(carry):
    w, x, number = carry
    return w + 1, x @ w, number + 1

  def function(w, x):
    start = w, x, jnp.zeros((), jnp.int32)
    if loop == "scan":
      return jax.lax.scan(lambda c, _: (turn(c), None), start, length=3)[0]
    return jax.lax.while_loop(lambda c: c[2] < 3, turn, start)

  report = measure(function, X, variables=jnp.zeros((4, 4)))
  assert report.effective_macs == report.macs == 3 * 80


def test_what_no_input_reaches_has_the_bits_of_a_weight():
  report = measure(lambda x: x @ jnp.eye(4), X, bits={"*": (2, 8)})
  assert report.bit_operations == 80 * 2 * 8


def test_bits_reach_into_loops_and_shards():
  def loop(w, x):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  w = jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)
  report = measure(loop, X, variables=w, bits={"*": (2, 8)})
  assert report.bit_operations == 3 * 80 * 16
  mesh = AbstractMesh((2,), ("d",), axis_types=(AxisType.Auto,))
  shards = jax.shard_map(
    lambda w, x: x @ w,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec("d")),
    out_specs=PartitionSpec("d"),
  )
  x = jax.ShapeDtypeStruct((6, 4), jnp.float32)
  w = jax.ShapeDtypeStruct((4, 4), jnp.float32)
  report = measure(shards, x, variables=w, bits={"*": (2, 8)})
  assert report.bit_operations == 6 * 16 * 16


def test_pattern_is_of_the_whole_path():
  model = Net(nnx.Rngs(0))
  plain = measure(model, X)
  none = measure(model, X, bits={"hea": (8, 8), "irst": (8, 8)})
  assert none.bit_operations == plain.bit_operations


def test_weight_without_elements():
  empty = jnp.zeros((4, 0))
  report = measure(lambda w, x: x @ w, X, variables=empty)
  assert (report.macs, report.effective_macs) == (0, 0)


def test_reference_to_a_weight_is_not_known():
  def function(w, x):
    ref = jax.new_ref(w)
    ref[...] = ref[...] + 1
    return x @ ref[...]

  report = measure(function, X, variables=jnp.zeros((4, 4)))
  assert report.effective_macs == report.macs == 80


def test_masks_that_are_kept_beside_the_weights():
  class Masked(nnx.Module):
    def __init__(self):
      self.kernel = nnx.Param(jnp.ones((4, 6)))
      self.mask = nnx.Variable(sparse((4, 6), 10))

    def __call__(self, x):
      return x @ (self.kernel[...] * self.mask[...])

  assert measure(Masked(), X).effective_macs == 5 * (24 - 10)


def test_numpy_weights_have_zeros_too():
  w = np.asarray(sparse((4, 6), 5))
  report = measure(lambda w, x: x @ w, X, variables=w)
  assert report.effective_macs == 5 * (24 - 5)
