"""Every number format: on its grid, exact where it says so, with gradients."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from effarch.compression.quantize import Scheme

INTEGERS = ("int8", "int4", "int2")
SCHEMES = [
  *(Scheme(dtype) for dtype in (*INTEGERS, "ternary", "binary")),
  *(Scheme(dtype, symmetric=False, per="tensor") for dtype in INTEGERS),
  *(Scheme("int4", per=per) for per in ("tensor", 3)),
  *(Scheme(dtype) for dtype in ("float8_e4m3fn", "float8_e5m2")),
]
each_scheme = pytest.mark.parametrize(
  "scheme", SCHEMES, ids=lambda s: f"{s.dtype}-{s.symmetric}-{s.per}"
)
AXIS = 1


def draw(shape=(6, 4, 3), seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def parameters(scheme, x):
  arranged = scheme.arrange(x, AXIS)
  return arranged, *scheme.parameters(*scheme.range_of(arranged, AXIS))


def grid(scheme):
  """Returns all levels, by a list of what the type holds."""
  least, most = scheme.levels
  if scheme.dtype.startswith("float8"):
    codes = np.arange(256, dtype=np.uint8)
    held = codes.view(jnp.dtype(scheme.dtype)).astype(np.float32)
    return held[np.isfinite(held)]
  if scheme.dtype == "binary":
    return np.asarray([-1, 1])
  return np.arange(least, most + 1)


@each_scheme
def test_numbers_are_the_nearest_of_the_grid(scheme):
  x, scale, zero = parameters(scheme, draw())
  found = np.asarray(scheme.fake(x, scale, zero) / scale)
  levels = grid(scheme) - np.asarray(zero)[..., None]
  distance = np.abs(levels - found[..., None])
  slack = 1e-5 * np.maximum(np.abs(found), 1)
  assert (distance.min(-1) <= slack).all()
  best = np.abs(levels - np.asarray(x / scale)[..., None]).min(-1)
  assert (np.abs(found - x / scale) <= best + slack).all()


@each_scheme
def test_the_round_trip_is_exact(scheme):
  x, scale, zero = parameters(scheme, draw())
  once = scheme.decode(scheme.encode(x, scale, zero), scale, zero)
  chex.assert_trees_all_equal(once, scheme.fake(x, scale, zero))
  again = scheme.decode(scheme.encode(once, scale, zero), scale, zero)
  chex.assert_trees_all_equal(again, once)
  chex.assert_trees_all_equal(
    scheme.restore(x, draw().shape, AXIS), draw(), strict=True
  )


@each_scheme
def test_zero_stays_zero(scheme):
  x = jnp.where(draw() > 0, draw(), 0) + 0.0
  arranged, scale, zero = parameters(scheme, x)
  found = np.asarray(scheme.fake(arranged, scale, zero))
  if scheme.dtype == "binary":
    assert (found != 0).all()
  else:
    assert (found[np.asarray(arranged) == 0] == 0).all()


@each_scheme
@pytest.mark.parametrize("kind", ["zeros", "tiny", "constant", "empty", "one"])
def test_no_scale_is_zero_or_without_number(scheme, kind):
  x = {
    "zeros": jnp.zeros((6, 4, 3)),
    "tiny": jnp.full((6, 4, 3), 1e-42),
    "constant": jnp.full((6, 4, 3), -0.7),
    "empty": jnp.zeros((0, 4, 3)),
    "one": draw().at[:, 1].set(0),
  }[kind]
  x, scale, zero = parameters(scheme, x)
  chex.assert_tree_all_finite((scale, zero))
  assert (scale > 0).all()
  found = scheme.fake(x, scale, zero)
  chex.assert_tree_all_finite(found)
  if kind == "constant":
    np.testing.assert_allclose(found, x, rtol=1e-2)


@each_scheme
def test_scales_are_shared_as_told(scheme):
  x = draw()
  _, scale, _ = parameters(scheme, x)
  number = {"tensor": 1, "channel": 4, 3: 4 * 6}[scheme.per]
  assert scale.size == number
  if scheme.per == "channel":
    changed = parameters(scheme, x.at[:, 2].multiply(5))[1]
    expected = scale * jnp.asarray([1, 1, 5, 1])[None, :, None]
    chex.assert_trees_all_close(changed, expected)


def test_groups_are_runs_of_a_channels_numbers():
  scheme = Scheme("int4", per=3)
  x = draw()
  _, scale, _ = parameters(scheme, x)
  for place, channel in itertools.product(range(6), range(4)):
    expected = np.abs(x[place, channel]).max() / 7
    np.testing.assert_allclose(scale[place, 0, channel], expected, rtol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES[:8], ids=lambda s: s.dtype)
def test_gradients_pass_within_the_range_and_nowhere_else(scheme):
  x, scale, zero = parameters(scheme, draw())
  scale = scale * 0.6
  least, most = scheme.levels
  v = np.asarray(x / scale + zero)
  inside = (v >= least) & (v <= most)
  assert inside.any()
  assert not inside.all()

  def total(x, scale):
    return scheme.fake(x, scale, zero).sum()

  dx, dscale = jax.grad(total, argnums=(0, 1))(x, scale)
  np.testing.assert_allclose(dx, inside, rtol=1e-6)
  # Esser et al. (2019), equation 3; of an affine grid, less its zero point.
  level = np.asarray(scheme.level(x, scale, zero))
  formula = np.where(inside, level - np.asarray(x / scale), level)
  axes = scheme.shared(x.ndim, AXIS)
  np.testing.assert_allclose(
    dscale, formula.sum(axes, keepdims=True), rtol=1e-4, atol=1e-4
  )


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e3, 1e3, width=32)))
def test_rounding_errs_by_half_a_step_at_most(x):
  x = jnp.asarray(x)
  for scheme in SCHEMES[5:8]:
    scale, zero = scheme.parameters(*scheme.range_of(x, AXIS))
    found = np.asarray(scheme.fake(x, scale, zero))
    # The zero point is rounded too: as much again at the ends.
    assert (np.abs(found - x) <= np.asarray(scale) * 1.0001).all()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"dtype": "int3"}, "dtype: 'int3' is none of the symmetric formats, int8"),
    ({"dtype": "binary", "symmetric": False}, "dtype: 'binary' is none of the"),
    ({"per": "row"}, "per: 'row' is neither tensor nor channel nor"),
    ({"per": 0}, "per: 0 is neither"),
  ],
)
def test_what_cannot_be_is_told(arguments, message):
  with pytest.raises(ValueError, match=message):
    Scheme(**arguments)


def test_groups_that_do_not_come_out_even_are_told():
  with pytest.raises(ValueError, match="per: groups of 4 don't divide the 18"):
    Scheme("int4", per=4).arrange(draw(), AXIS)
