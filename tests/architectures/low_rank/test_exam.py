"""Every structured layer: the exam, initial variance, shares of parameters."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from effarch.architectures.convolution.window import window
from effarch.architectures.low_rank import (
  CONV_STRUCTURES,
  STRUCTURES,
  BlockDiagonal,
  LowRank,
  StructuredConv,
  StructuredLinear,
)
from effarch.infrastructure.cost import measure
from effarch.testing import check_structured

IN, OUT = 20, 36
SIZES = {
  "low_rank": {"rank": 5},
  "low_rank_sparse": {"rank": 3, "per_output": 4},
  "low_rank_diagonal": {"rank": 5},
  "lora": {"rank": 3, "alpha": 6.0},
  "dora": {"rank": 3},
  "block_diagonal": {"blocks": 3},
  "grouped_shuffle": {"blocks": 3},
  "monarch": {"rank": 2, "blocks": 3},
  "butterfly": {"block_size": 5},
  "kronecker": {"rank": 1},
  "hypercomplex": {"components": 2},
  "tensor_train": {"rank": 1},
  "circulant": {"block_size": 7},
  "toeplitz": {"block_size": 9},
  "acdc": {"stages": 3},
  "fastfood": {"stages": 2},
}
# Parameters of such a layer with three blocks, two components, ..., and MACs
# of one input: J = 7 and P = 12 of three parts.
FORMULAS = {
  "low_rank": (5 * (20 + 36), 5 * (20 + 36)),
  "low_rank_sparse": (3 * 56 + 4 * 36, 3 * 56 + 4 * 36),
  "low_rank_diagonal": (5 * 56 + 20, 5 * 56),
  "lora": (3 * 56, 720 + 3 * 56),
  "dora": (3 * 56 + 36, 720 + 3 * 720 // 2),  # Two inputs share the making.
  "block_diagonal": (3 * 7 * 12, 3 * 7 * 12),
  "grouped_shuffle": (3 * 7 * 12, 3 * 7 * 12),
  "monarch": (9 * 2 * (7 + 12), 9 * 2 * (7 + 12)),
  "butterfly": (3 * 16 * 25, 3 * 16 * 25),
  # 4 x 6 times 5 x 6.
  "kronecker": (4 * 6 + 5 * 6, 4 * 6 * (5 + 6)),
  "hypercomplex": (8 + 2 * 10 * 18, 2 * 10 * 2 * (2 + 18)),
  # Digits 2, 2, 5 to 3, 3, 4.
  "tensor_train": (6 + 6 + 20, 6 * 10 + 6 * 3 * 5 + 20 * 9),
  # Blocks 3 x 6, and 3 x 4.
  "circulant": (3 * 6 * 7, 4 * 3 * 6 * 4),
  "toeplitz": (3 * 4 * 17, 4 * 3 * 4 * 10),
  "acdc": (2 * 3 * 36, 0),
  "fastfood": (3 * 2 * 64, 2 * 2 * 64 * (32 + 2)),
}
# LiteRT has no complex numbers, which Fourier transforms are made of.
BY_FOURIER = {"circulant", "toeplitz", "acdc"}


def make(name, i=IN, o=OUT, **arguments):
  layer = StructuredLinear(i, o, STRUCTURES[name](**SIZES[name]), **arguments)
  if layer.structure.adapts:  # What is learned begins with nothing.
    up = layer.factors["up"]
    up[...] = jax.random.normal(jax.random.key(1), up.shape) / 3
  return layer


@pytest.mark.parametrize("name", STRUCTURES)
def test_exam(name):
  params, macs = FORMULAS[name]
  x = jax.random.normal(jax.random.key(0), (2, IN))
  check_structured(
    functools.partial(make, name),
    jnp.matmul,
    x,
    (2, OUT),
    params=params + OUT,
    macs=2 * macs,
    ships=name not in BY_FOURIER,
  )


@pytest.mark.parametrize("name", STRUCTURES)
def test_many_inputs_of_any_shape(name):
  layer = make(name, rngs=nnx.Rngs(0))
  x = jax.random.normal(jax.random.key(0), (3, 2, 10, IN))
  out = jax.jit(lambda x: layer(x))(x)
  want = x @ layer.to_dense()
  np.testing.assert_allclose(out, want, atol=2e-5 * float(abs(want).max()))
  assert measure(layer, x).macs == layer.structure.macs(IN, OUT, 60)


# A kernel, strides, padding and dilation, and the images' size.
CONVS = {
  "square": ((3, 3), {}, (5, 4)),
  "strided": ((3, 5), {"strides": (2, 1), "padding": "VALID"}, (7, 6)),
  "dilated": ((3, 3), {"dilation": 2, "padding": ((1, 2), (0, 3))}, (7, 5)),
  "points": ((1, 1), {}, (3, 4)),
  "sequence": ((3,), {"padding": "CAUSAL"}, (6,)),
}
C, F = 6, 8
RANKS = {
  "channel_low_rank": 3,
  "spatial_low_rank": 4,
  "tucker": (3, 2),
  "cp": 5,
}


def conv_formulas(name, taps, into, between, out):
  """Parameters, and MACs of one input: places in, between, and out."""
  places = math.prod(taps)
  return {
    "channel_low_rank": (
      3 * (places * C + F),
      out * 3 * (places * C + F),
    ),
    "spatial_low_rank": (
      4 * (taps[0] * C + taps[-1] * F),
      4 * (between * taps[0] * C + out * taps[-1] * F),
    ),
    "tucker": (
      C * 3 + places * 6 + 2 * F,
      into * C * 3 + out * (places * 6 + 2 * F),
    ),
    "cp": (
      5 * (C + sum(taps) + F),
      5 * (into * C + between * taps[0] + out * F)
      + (5 * out * taps[1] if len(taps) == 2 else 0),
    ),
  }[name]


@pytest.mark.parametrize(
  ("name", "case"),
  sorted(
    set(itertools.product(CONV_STRUCTURES, CONVS))
    - {("spatial_low_rank", "sequence")}
  ),
)
def test_exam_of_convolutions(name, case):
  taps, options, spatial = CONVS[case]
  structure = CONV_STRUCTURES[name](rank=RANKS[name])

  def layer(**arguments):
    return StructuredConv(C, F, taps, structure, **options, **arguments)

  def dense(x, kernel):
    renamed = {
      {"dilation": "kernel_dilation"}.get(k, k): v for k, v in options.items()
    }
    conv = nnx.Conv(C, F, taps, **renamed, use_bias=False, rngs=nnx.Rngs(0))
    conv.kernel = nnx.Param(kernel)
    return conv(x)

  over = window(spatial, taps, **options)
  outs = over.out(spatial, taps)
  between = outs[0] * math.prod(spatial[1:])
  params, macs = conv_formulas(
    *(name, taps, math.prod(spatial), between, math.prod(outs))
  )
  x = jax.random.normal(jax.random.key(0), (2, *spatial, C))
  check_structured(
    layer, dense, x, (2, *outs, F), params=params + F, macs=2 * macs
  )


@functools.cache
def dense_variance(i):
  def one(key):
    key, inputs = jax.random.split(key)
    kernel = nnx.initializers.lecun_normal()(key, (i, 48))
    return jnp.var(jax.random.normal(inputs, (32, i)) @ kernel)

  return jnp.mean(jax.vmap(one)(jax.random.split(jax.random.key(0), 100)))


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("i", [32, 60])
def test_initial_variance_is_the_dense_layers(name, i):
  structure = STRUCTURES[name](**SIZES[name])

  @jax.jit
  @jax.vmap
  def variance(key):
    key, inputs = jax.random.split(key)
    factors = structure.draw(key, i, 48)
    x = jax.random.normal(inputs, (32, i))
    return jnp.var(structure.apply(factors, x, 48))

  found = variance(jax.random.split(jax.random.key(1), 100))
  assert abs(jnp.mean(found) / dense_variance(i) - 1) < 0.1


@pytest.mark.parametrize("name", CONV_STRUCTURES)
def test_initial_variance_is_the_dense_convolutions(name):
  structure = CONV_STRUCTURES[name](params_ratio=0.5).fitted(3, 3, 16, 24)

  @jax.jit
  @jax.vmap
  def variance(key):
    kernel = structure.to_dense(structure.draw(key, 3, 3, 16, 24))
    # Of independent inputs with a variance of one.
    return jnp.sum(kernel**2) / 24

  found = variance(jax.random.split(jax.random.key(1), 100))
  assert abs(jnp.mean(found) - 1) < 0.1


@pytest.mark.parametrize("ratio", [0.5, 0.25])
@pytest.mark.parametrize(
  ("table", "shape"),
  [(STRUCTURES, (64, 64)), (CONV_STRUCTURES, (3, 3, 16, 24))],
)
def test_a_share_of_the_parameters(table, shape, ratio):
  for name, kind in table.items():
    more = {"per_output": 4} if name == "low_rank_sparse" else {}
    found = kind(params_ratio=ratio, **more).fitted(*shape)
    budget = ratio * math.prod(shape)
    assert found.params(*shape) <= 1.01 * budget, name
    others = [
      kind(**{kind.chosen: size}, **more).params(*shape)
      for size in found.sizes(*shape)
    ]
    assert max(p for p in others if p <= 1.01 * budget) == found.params(*shape)


def test_what_cannot_be_is_told():
  with pytest.raises(ValueError, match="rank: give either it or params_ratio"):
    LowRank()
  with pytest.raises(ValueError, match="params_ratio, not both"):
    LowRank(rank=3, params_ratio=0.5)
  with pytest.raises(ValueError, match="rank: -3 is not positive"):
    LowRank(rank=-3)
  with pytest.raises(ValueError, match="LowRank has no fewer than 52,"):
    LowRank(params_ratio=0.01).fitted(16, 36)
  with pytest.raises(ValueError, match="blocks: 4 equal parts of 9 features"):
    StructuredLinear(9, 16, BlockDiagonal(blocks=4), rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match="rngs: missing"):
    StructuredLinear(4, 4, LowRank(rank=1))
  with pytest.raises(ValueError, match="take ChannelLowRank"):
    StructuredConv(
      *(2, 3, (3,), CONV_STRUCTURES["spatial_low_rank"](rank=1)),
      rngs=nnx.Rngs(0),
    )
