"""Every formulation against XLA's own convolution, forward and backward."""

import functools
import os
import re
import subprocess
import sys

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st
from jax import lax

from effarch.architectures.convolution import (
  Conv,
  DepthwiseConv,
  columns,
  conv,
  depthwise_conv,
  onednn,
  plain_convolutions,
)

NAMES = {1: ("NTC", "TIO", "NTC"), 2: ("NHWC", "HWIO", "NHWC")}


@pytest.fixture(params=["onednn", "shifted"])
def formulation(request, monkeypatch):
  if request.param == "shifted":
    monkeypatch.setattr(onednn, "available", lambda: False)
  elif not onednn.available():
    pytest.skip("this compiler has no oneDNN")
  return request.param


def reference(x, kernel, strides, padding, dilation, groups):
  return lax.conv_general_dilated(
    *(x, kernel, strides, padding),
    rhs_dilation=dilation,
    dimension_numbers=NAMES[x.ndim - 2],
    feature_group_count=groups,
  )


@st.composite
def problems(draw, kind):
  """Draws inputs, a kernel and a window that leaves an output."""
  axes = draw(st.integers(1, 2))

  def each(low, high):
    return tuple(draw(st.integers(low, high)) for _ in range(axes))

  spatial, taps = each(1, 9), each(1, 9)
  strides, dilation = each(1, 3), each(1, 2)
  pads = tuple(zip(each(0, 4), each(0, 4), strict=True))
  padding = draw(st.sampled_from(["SAME", "VALID", pads]))
  if padding != "SAME":
    margins = ((0, 0),) * axes if padding == "VALID" else pads
    hypothesis.assume(
      all(
        n + sum(m) >= (k - 1) * d + 1
        for n, k, d, m in zip(spatial, taps, dilation, margins, strict=True)
      )
    )
  channels = draw(st.sampled_from([1, 2, 3, 16, 17]))
  if kind == "channelwise":
    groups, features = channels, channels * draw(st.integers(1, 2))
  elif kind == "grouped":
    groups = draw(st.integers(2, 3))
    channels, features = 2 * groups, groups * draw(st.integers(1, 3))
  else:
    groups, features = 1, draw(st.integers(1, 5))
  generator = np.random.default_rng(draw(st.integers(0, 99)))
  x = generator.normal(size=(draw(st.integers(1, 3)), *spatial, channels))
  kernel = generator.normal(size=(*taps, channels // groups, features))
  return (
    x.astype(np.float32),
    kernel.astype(np.float32),
    (strides, padding, dilation, groups),
  )


def agrees(x, kernel, arguments):
  """Compares outputs and both gradients, relative to the largest number."""
  strides, padding, dilation, groups = arguments

  @jax.jit
  def both(x, kernel, gradient):
    wanted, back = jax.vjp(lambda x, k: reference(x, k, *arguments), x, kernel)
    found, forth = jax.vjp(
      lambda x, k: conv(
        *(x, k),
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=groups,
      ),
      *(x, kernel),
    )
    return (found, *forth(gradient)), (wanted, *back(gradient))

  shape = jax.eval_shape(lambda: reference(x, kernel, *arguments)).shape
  gradient = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  for found, wanted in zip(*both(x, kernel, gradient), strict=True):
    chex.assert_equal_shape([found, wanted])
    scale = float(jnp.abs(wanted).max()) + 1e-6
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", ["dense", "channelwise", "grouped"])
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
def test_equals_xla(kind, data):
  agrees(*data.draw(problems(kind)))


@hypothesis.given(data=st.data())
@hypothesis.settings(
  max_examples=15,
  deadline=None,
  derandomize=True,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_shifted_products_equal_xla(data, monkeypatch):
  monkeypatch.setattr(onednn, "available", lambda: False)
  agrees(*data.draw(problems("channelwise")))


@pytest.mark.parametrize("taps", [(31, 31), (7, 1)])
def test_large_kernels(formulation, taps):
  generator = np.random.default_rng(0)
  x = generator.normal(size=(2, 9, 8, 4)).astype(np.float32)
  kernel = generator.normal(size=(*taps, 1, 4)).astype(np.float32)
  agrees(x, kernel, ((1, 1), "SAME", (1, 1), 4))


def test_blocks_of_images_and_what_is_left(monkeypatch):
  if not onednn.available():
    pytest.skip("this compiler has no oneDNN")
  monkeypatch.setattr(columns, "_BLOCK", 2 * 27 * 30)  # Two images a block.
  jax.clear_caches()
  generator = np.random.default_rng(0)
  x = generator.normal(size=(5, 6, 5, 3)).astype(np.float32)
  kernel = generator.normal(size=(3, 3, 3, 4)).astype(np.float32)
  agrees(x, kernel, ((1, 1), "SAME", (1, 1), 1))


@pytest.mark.parametrize("choice", ["columns", "filters"])
@hypothesis.given(data=st.data())
@hypothesis.settings(
  max_examples=15,
  deadline=None,
  derandomize=True,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_every_way_to_a_kernels_gradient(choice, data, monkeypatch):
  """So small problems are left to XLA, unless another way is chosen."""
  if not onednn.available():
    pytest.skip("this compiler has no oneDNN")
  monkeypatch.setattr(columns, "_choice", lambda *problem: choice)
  jax.clear_caches()
  agrees(*data.draw(problems("dense")))


@pytest.mark.parametrize(
  ("channels", "choice"),
  [((3, 32), "filters"), ((32, 3), "filters"), ((8, 8), "xla")],
)
def test_the_way_follows_the_channels(channels, choice, monkeypatch):
  if not onednn.available():
    pytest.skip("this compiler has no oneDNN")
  chosen, choose = [], columns._choice
  monkeypatch.setattr(
    columns,
    "_choice",
    lambda *problem: chosen.append(choose(*problem)) or chosen[-1],
  )
  jax.clear_caches()
  generator = np.random.default_rng(0)
  x = generator.normal(size=(2, 15, 15, channels[0])).astype(np.float32)
  kernel = generator.normal(size=(3, 3, *channels)).astype(np.float32)
  agrees(x, kernel, ((1, 1), "SAME", (1, 1), 1))
  assert choice in chosen


def test_gradients_of_gradients(formulation):
  x = jax.random.normal(jax.random.key(0), (2, 5, 4, 2))
  kernel = jax.random.normal(jax.random.key(1), (3, 2, 1, 2))
  arguments = (2, 1), ((1, 1), (1, 0)), (1, 1), 2

  def penalty(call, x, kernel):
    """The gradients of a squared gradient need all three contractions."""

    def loss(x, kernel):
      return jnp.sum(jnp.tanh(call(x, kernel)))

    gradients = jax.grad(loss, (0, 1))(x, kernel)
    return sum(jnp.sum(jnp.square(g)) for g in gradients)

  def own(x, kernel):
    strides, padding, _, groups = arguments
    return conv(x, kernel, strides=strides, padding=padding, groups=groups)

  found = jax.jit(jax.grad(functools.partial(penalty, own), (0, 1)))
  wanted = jax.jit(
    jax.grad(
      functools.partial(penalty, lambda x, k: reference(x, k, *arguments)),
      (0, 1),
    )
  )
  chex.assert_trees_all_close(
    found(x, kernel), wanted(x, kernel), rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize("index", [0, 1])
def test_gradients_that_none_asks_for_are_not_computed(index):
  def loss(*arrays):
    return depthwise_conv(*arrays).sum()

  x, kernel = jnp.ones((1, 5, 4, 6)), jnp.ones((3, 3, 1, 6))
  lowered = jax.jit(jax.grad(loss, index)).trace(x, kernel)
  text = lowered.lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("stablehlo.convolution") == 1
  whole = jax.jit(jax.grad(loss, (0, 1))).trace(x, kernel)
  text = whole.lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("stablehlo.convolution") == 2


def test_mapped_over_examples_is_the_same(formulation):
  x = jax.random.normal(jax.random.key(0), (3, 1, 5, 4, 2))
  kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 2))
  found = jax.jit(jax.vmap(depthwise_conv, (0, None)))(x, kernel)
  chex.assert_trees_all_close(
    found[:, 0], depthwise_conv(x[:, 0], kernel), atol=1e-5
  )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_rounds_once(formulation, dtype):
  generator = np.random.default_rng(0)
  x = jnp.asarray(generator.normal(size=(2, 8, 8, 32)), dtype)
  kernel = jnp.asarray(generator.normal(size=(5, 5, 1, 32)), dtype)
  found = jax.jit(depthwise_conv)(x, kernel)
  assert found.dtype == dtype
  exact = depthwise_conv(x.astype(jnp.float32), kernel.astype(jnp.float32))
  chex.assert_trees_all_equal(found, exact.astype(dtype))


@pytest.mark.parametrize(
  ("shape", "out_shape"),
  [((0, 5, 4, 2), (0, 3, 2, 2)), ((1, 2, 4, 2), (1, 0, 2, 2))],
)
def test_nothing_makes_nothing(formulation, shape, out_shape):
  def call(x, kernel):
    return depthwise_conv(x, kernel, padding="VALID")

  x, kernel = jnp.zeros(shape), jnp.ones((3, 3, 1, 2))
  out, back = jax.vjp(call, x, kernel)
  chex.assert_shape(out, out_shape)
  for gradient, like in zip(back(out), (x, kernel), strict=True):
    chex.assert_trees_all_equal(gradient, jnp.zeros_like(like))


def test_accelerators_and_files_get_xlas_own_convolution():
  traced = jax.jit(depthwise_conv).trace(
    jax.ShapeDtypeStruct((1, 5, 4, 6), jnp.float32),
    jax.ShapeDtypeStruct((3, 3, 1, 6), jnp.float32),
  )
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert "stablehlo.convolution" in text
  assert "feature_group_count = 6" in text
  assert "custom_call" not in text


def test_plain_convolutions_are_xlas_own_everywhere():
  x, kernel = jnp.ones((1, 5, 4, 6)), jnp.ones((3, 3, 1, 6))

  def lowered():
    return jax.jit(lambda x: depthwise_conv(x, kernel)).lower(x).as_text()

  with plain_convolutions():
    plain = lowered()
  assert "stablehlo.convolution" in plain
  assert "custom_call" not in plain
  assert "stablehlo.convolution" not in lowered()


# Shapes that oneDNN's compiled filters do not take as they are: too much
# padding, strides over wide kernels, and one axis alone.
CODE = """
import jax, numpy as np
from effarch.architectures.convolution import conv
for spatial, taps, strides, padding, dilation in [
  ((5,), (11,), (2,), ((5, 5),), (1,)),
  ((32, 5), (2, 11), (1, 1), "SAME", (3, 2)),
  ((14, 3), (3, 4), (3, 3), ((0, 1), (2, 1)), (1, 2)),
  ((3, 1), (5, 7), (2, 2), ((4, 4), (3, 3)), (1, 1)),
  ((16, 16), (9, 9), (2, 2), "SAME", (1, 1)),
  ((8, 8), (3, 3), (2, 2), ((6, 6), (6, 6)), (2, 2)),
]:
  for groups in (1, 8):
    def call(x, kernel):
      return conv(x, kernel, strides=strides, padding=padding,
                  dilation=dilation, groups=groups).sum()
    x = np.ones((2, *spatial, 8), np.float32)
    kernel = np.ones((*taps, 8 // groups, 8), np.float32)
    jax.block_until_ready(jax.jit(jax.grad(call, (0, 1)))(x, kernel))
"""


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_only_compiled_ways_of_onednn_are_taken(instructions):
  """Its others are slow, and one never returns (see `onednn`)."""
  if not onednn.available():
    pytest.skip("this compiler has no oneDNN")
  result = subprocess.run(
    [sys.executable, "-c", CODE],
    env=os.environ
    | {"ONEDNN_VERBOSE": "1", "ONEDNN_MAX_CPU_ISA": instructions},
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  ways = set(re.findall(r",convolution,([^,]*),", result.stdout))
  assert ways, "oneDNN was not asked"
  assert all(re.match("br|jit", way) for way in ways), ways


def test_modules_are_drop_ins(formulation):
  x = jax.random.normal(jax.random.key(0), (2, 6, 5, 4))
  arguments = {"strides": 2, "padding": "VALID"}
  theirs = nnx.Conv(4, 8, (3, 3), **arguments, rngs=nnx.Rngs(0))
  ours = Conv(4, 8, (3, 3), **arguments, rngs=nnx.Rngs(0))
  chex.assert_trees_all_equal(
    nnx.to_pure_dict(nnx.state(ours)), nnx.to_pure_dict(nnx.state(theirs))
  )
  chex.assert_trees_all_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_causal_filters_see_nothing_later():
  layer = DepthwiseConv(
    3, (4,), padding="CAUSAL", dilation=2, multiplier=2, rngs=nnx.Rngs(0)
  )
  x = jax.random.normal(jax.random.key(0), (2, 9, 3))
  moved = layer(x.at[:, 5].add(1)) - layer(x)
  chex.assert_shape(moved, (2, 9, 6))
  changed = np.flatnonzero(np.abs(moved).sum((0, 2)))
  np.testing.assert_array_equal(changed, [5, 7])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"padding": "CAUSAL"}, "padding: 'CAUSAL' is none of SAME, VALID"),
    ({"padding": -1}, "padding: -1 is not zeros for 2 axes"),
    ({"strides": 0}, "strides: 0 is not 2 positive sizes"),
    ({"strides": (1, 2, 3)}, "strides: .* is not 2 positive sizes"),
    ({"groups": 2}, "does not fit 4 channels in 2 groups"),
  ],
)
def test_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    conv(jnp.zeros((1, 5, 5, 4)), jnp.zeros((3, 3, 4, 4)), **arguments)


def test_refuses_shapes():
  with pytest.raises(ValueError, match="one or two spatial axes"):
    conv(jnp.zeros((1, 5, 5, 4)), jnp.zeros((3, 4, 4)))
  with pytest.raises(ValueError, match="groups: 3 does not divide 4 and 6"):
    Conv(4, 6, (3, 3), groups=3, rngs=nnx.Rngs(0))
