"""Exact attention against its definition, in float64 and in small chunks."""

import itertools
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental.pallas import tpu as pltpu

from effarch.architectures.attention import ATTENTION, full
from effarch.architectures.attention.full import attention
from tests.architectures.attention.dense import (
  assert_same,
  dense,
  distances,
  draw,
  holes,
  jit,
  visible_pairs,
  with_gradient,
)

B, C = 2, 8


exact = pytest.mark.usefixtures("float64", "small_chunks")


@exact
@pytest.mark.parametrize(
  ("length", "seen", "heads", "shared", "value_size", "options"),
  [
    (37, 37, 2, 2, 4, ""),
    (37, 37, 2, 1, 4, "causal"),
    (37, 37, 4, 2, 4, "mask causal alibi"),
    (11, 11, 2, 2, 3, "mask causal"),
    (3, 26, 2, 1, 7, "mask alibi"),
    (26, 11, 2, 2, 4, "causal"),
    (9, 37, 2, 2, 4, "causal mask"),
  ],
)
def test_definition(length, seen, heads, shared, value_size, options):
  query = draw(B, length, heads, 4)
  key = draw(B, seen, shared, 4)
  value = draw(B, seen, shared, value_size, seed=1)
  mask = holes(seen) if "mask" in options else None
  causal = "causal" in options
  slopes = np.array([0.5, 0.03, 0.2, 0.0])[:heads] if "alibi" in options else 0
  pairs = visible_pairs(length, seen, mask, causal)
  bias = distances(np.broadcast_to(slopes, heads), length, seen)
  assert_same(
    lambda *inputs: attention(
      *inputs,
      mask=None if mask is None else jnp.asarray(mask),
      causal=causal,
      slopes=jnp.asarray(slopes) if "alibi" in options else None,
    ),
    lambda *inputs: dense(*inputs, pairs, bias),
    (B, length, heads, value_size),
    *(query, key, value),
  )


@exact
@pytest.mark.parametrize("dropout", [{}, {"dropout_rate": 0.0}])
def test_slopes_are_constants(dropout):
  if dropout:
    dropout["dropout_key"] = jax.random.key(0)
  inputs = [jnp.asarray(draw(B, 11, 2, 4, seed=seed)) for seed in range(3)]

  def squares(slopes):
    return jnp.square(attention(*inputs, slopes=slopes, **dropout)).sum()

  slopes = jnp.array([0.5, 0.03])
  value, gradient = jax.value_and_grad(squares)(slopes)
  assert value != squares(2 * slopes)
  assert not gradient.any()


@exact
def test_who_sees_none_gets_zeros():
  inputs = [draw(B, 37, 2, 4, seed=seed) for seed in range(3)]
  mask = jnp.asarray(holes(37))
  run = with_gradient(lambda *xs: attention(*xs, mask=mask, causal=True))
  out, gradients = run(draw(B, 37, 2, 4, seed=3), *inputs)
  out, gradients = jax.device_get((out, gradients))
  assert not out[0, :3].any() and not out[1].any()
  assert (abs(out[0, 3:]).min((1, 2)) > 0).all()
  chex.assert_tree_all_finite(gradients)
  # No query, key or value of padding alone has moved anything.
  assert all(not x[1].any() for x in gradients)
  assert not gradients[0][0, :3].any()
  assert not gradients[2][0, :3].any()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
  ("shared", "causal", "seen"), [(2, True, 37), (1, False, 21)]
)
def test_jax_has_the_same(shared, causal, seen):
  query = draw(B, 37, 2, 4)
  key, value = (draw(B, seen, shared, 4, seed=seed) for seed in (1, 2))
  mask = np.ones((B, seen), bool)
  mask[:, -4:] = False
  run = with_gradient(
    lambda *xs: attention(*xs, mask=jnp.asarray(mask), causal=causal)
  )
  theirs = with_gradient(
    lambda *xs: jax.nn.dot_product_attention(
      *xs, mask=mask[:, None, None], is_causal=causal
    )
  )
  inputs = draw(B, 37, 2, 4, seed=3), query, key, value
  inputs = [x.astype(np.float32) for x in inputs]
  chex.assert_trees_all_close(
    run(*inputs), theirs(*inputs), rtol=1e-4, atol=1e-5
  )


@exact
def test_dropout_weighs_the_same_on_the_way_back():
  """Outputs are linear in values; a gradient is the transposed weights."""
  query, key, value = (draw(B, 37, 2, 4, seed=seed) for seed in range(3))
  cotangent = draw(B, 37, 2, 4, seed=3)

  @jit
  def run(rng, *inputs):
    def function(*inputs):
      return attention(*inputs, causal=True, dropout_rate=0.5, dropout_key=rng)

    out, pull = jax.vjp(function, *inputs)
    return out, pull(cotangent)

  rng = jax.random.key(0)
  out, (by_query, by_key, by_value) = run(rng, query, key, value)
  pairs = visible_pairs(37, 37, None, True)
  assert abs(out - jit(dense)(query, key, value, pairs, 0.0)).max() > 0.1
  np.testing.assert_allclose(
    jnp.vdot(cotangent, out), jnp.vdot(by_value, value), rtol=1e-9
  )
  # The weights of the changed queries and keys are dropped alike.
  for place, gradient in ((0, by_query), (1, by_key)):
    change = draw(*gradient.shape, seed=4)
    moved = []
    for step in (1e-5, -1e-5):
      inputs = [query, key, value]
      inputs[place] = inputs[place] + step * change
      moved.append(jnp.vdot(cotangent, run(rng, *inputs)[0]))
    slope = (moved[0] - moved[1]) / 2e-5
    np.testing.assert_allclose(slope, jnp.vdot(gradient, change), rtol=1e-6)


@exact
def test_dropout_is_right_on_average():
  # All queries alike, so that rows differ by what is dropped alone.
  query = jnp.broadcast_to(draw(4), (1, 9, 2, 4))
  key, value = (jnp.asarray(draw(1, 9, 2, 4, seed=n)) for n in (1, 2))

  def dropped(rng):
    return attention(query, key, value, dropout_rate=0.3, dropout_key=rng)

  rngs = jax.random.split(jax.random.key(0), 4000)
  outs = np.asarray(jit(jax.vmap(dropped))(rngs))
  error = outs.std(0) / len(outs) ** 0.5
  expected = jit(dense)(query, key, value, np.ones((1, 9, 9)), 0.0)
  assert (abs(outs.mean(0) - np.asarray(expected)) < 5 * error).all()
  # Each query, of each chunk and head, drops for itself.
  each = outs[:, 0, :, :, 0].reshape(len(rngs), 18)
  assert abs(np.corrcoef(each.T) - np.eye(18)).max() < 0.1


def test_dropout_of_a_mixer():
  x = draw(B, 5, C).astype(np.float32)
  mixer = ATTENTION["full"](C, 2, dropout_rate=0.5, rngs=nnx.Rngs(0))
  plain = ATTENTION["full"](C, 2, rngs=nnx.Rngs(0))
  call = nnx.jit(lambda mixer, x: mixer(x))
  first, second = call(mixer, x), call(mixer, x)
  expected = call(plain, x)
  mixer.eval()
  chex.assert_trees_all_equal(call(mixer, x), expected)
  mixer.train()
  outs = np.stack([first, second, call(mixer, x), expected])
  assert all(
    abs(a - b).max() > 0.01 for a, b in itertools.combinations(outs, 2)
  )


@pytest.mark.parametrize("back", [False, True])
def test_memory_grows_with_the_length_not_its_square(back):
  def temporary(length):
    inputs = 3 * [jax.ShapeDtypeStruct((1, length, 1, 32), jnp.float32)]

    def loss(*inputs):
      return attention(*inputs).sum()

    function = jax.grad(loss, (0, 1, 2)) if back else attention
    compiled = jax.jit(function).lower(*inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  small, large = temporary(1024), temporary(2048)
  assert large < 2.3 * small
  # All scores of one head alone are more.
  assert large < 2048**2 * 4


@pytest.mark.parametrize(
  (
    *("platform", "dtype", "length", "size", "value_size", "expected"),
    "capability",
  ),
  [
    ("cpu", "float32", 128, 64, 64, None, "9.0"),
    ("tpu", "float32", 256, 64, 64, full._pallas_tpu, "9.0"),
    ("tpu", "bfloat16", 256, 64, 64, full._pallas_tpu, "9.0"),
    ("tpu", "float32", 200, 64, 64, None, "9.0"),
    ("tpu", "float32", 256, 64, 32, None, "9.0"),
    ("gpu", "bfloat16", 100, 64, 64, full._cudnn, "9.0"),
    ("gpu", "float16", 100, 64, 64, full._cudnn, "9.0"),
    ("gpu", "float32", 100, 64, 64, None, "9.0"),
    ("gpu", "bfloat16", 100, 12, 12, None, "9.0"),
    ("gpu", "bfloat16", 100, 256, 256, None, "9.0"),
    ("gpu", "bfloat16", 100, 64, 32, None, "9.0"),
    ("gpu", "bfloat16", 100, 64, 64, None, "7.5"),
  ],
)
def test_flash_kernel(
  platform, dtype, length, size, value_size, expected, capability, monkeypatch
):
  monkeypatch.setattr(jax, "default_backend", lambda: platform)
  device = types.SimpleNamespace(compute_capability=capability)
  monkeypatch.setattr(jax, "devices", lambda: [device])
  shape = (1, length, 2, size)
  query = key = jax.ShapeDtypeStruct(shape, dtype)
  value = jax.ShapeDtypeStruct((*shape[:3], value_size), dtype)
  assert full._flash_kernel(query, key, value) is expected


def test_flash_kernel_of_tpus_lowers():
  """Forward and gradient reach the kernel; no TPU is needed to lower it."""
  query = jax.ShapeDtypeStruct((B, 256, 4, 64), jnp.bfloat16)
  key = jax.ShapeDtypeStruct((B, 256, 2, 64), jnp.bfloat16)

  def loss(*inputs):
    return full._pallas_tpu(*inputs, True).astype(jnp.float32).sum()

  lowered = jax.export.export(
    jax.jit(jax.grad(loss, (0, 1, 2))), platforms=["tpu"]
  )(query, key, key)
  assert "tpu_custom_call" in lowered.mlir_module()
  assert [x.shape for x in lowered.out_avals] == [
    (B, 256, 4, 64),
    (B, 256, 2, 64),
    (B, 256, 2, 64),
  ]


@pytest.mark.parametrize("causal", [False, True])
def test_flash_kernel_of_tpus_computes_the_same(causal):
  query, key, value = (
    draw(1, 128, heads, 8, seed=seed).astype(np.float32)
    for heads, seed in ((2, 0), (1, 1), (1, 2))
  )
  with pltpu.force_tpu_interpret_mode():
    found = jit(full._pallas_tpu, static_argnums=3)(query, key, value, causal)
  expected = jit(dense)(
    query, key, value, visible_pairs(128, 128, None, causal)[:1], 0.0
  )
  chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)
