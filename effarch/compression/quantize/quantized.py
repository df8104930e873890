"""A model whose weights and activations are rounded where LiteRT rounds them.

What it computes while it trains is what its file will: the file takes over the
very scales, by annotations of the program that LiteRT's converter reads.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array

from effarch.compression.quantize.operations import Kind
from effarch.compression.quantize.program import Operation, Site, Value, now
from effarch.compression.quantize.schemes import Scheme, scaled_gradient
from effarch.compression.quantize.traced import Traced
from effarch.errors import UserError

INT8_WEIGHTS = Scheme("int8")
INT8_ACTIVATIONS = Scheme("int8", symmetric=False, per="tensor")


# Of what LiteRT's converter quantizes.
_MOST_AXES = 5

# Compiled, for what is done at once while a file is made.
_parameters = jax.jit(Scheme.parameters, static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _parameters_of(
  scheme: Scheme, x: Array, axis: int | None
) -> tuple[Array, Array]:
  return scheme.parameters(*scheme.range_of(x, axis))


@functools.partial(jax.jit, static_argnums=0)
def _fake(scheme: Scheme, x: Array, scale: Array, zero: Array) -> Array:
  return scheme.fake(x, scale, zero).astype(x.dtype)


class Range(nnx.Variable):
  """What is known of activations: statistics, not trained."""


class Quantized(nnx.Module):
  """Computes what a model does, in inference, with rounded arrays.

  In training, ranges of activations follow the batches; the model's own parts
  behave as in evaluation, for it is the program that ships which is rounded.

  Args:
    model: from one batch to one array; best with all folded that folds.
    example: the shape of a batch.
    weights: of all weights of products and convolutions; None leaves them.
    activations: of all arrays that operations in integers read or make; None
      leaves them.
    layers: other schemes, or None, for weights by patterns of the paths of
      their parameters; the last that fits counts.
    learned: scales are trained too (arXiv:1902.08153); those of activations
      as factors of the observed ones.
    noise: the share of each weight's numbers, drawn anew each step, that is
      rounded in training (Quant-Noise, arXiv:2004.07320).
    momentum: of the ranges of activations, from batch to batch.

  Raises:
    ValueError: a share is none, a pattern fits no weight, or a scheme does not
      fit one.
  """

  def __init__(
    self,
    model: nnx.Module,
    example: jax.ShapeDtypeStruct,
    *,
    weights: Scheme | None = INT8_WEIGHTS,
    activations: Scheme | None = INT8_ACTIVATIONS,
    layers: Mapping[str, Scheme | None] | None = None,
    learned: bool = False,
    noise: float = 1.0,
    momentum: float = 0.95,
  ):
    if not 0 < noise <= 1:
      raise ValueError(f"noise: {noise} is not in (0, 1]")
    if not 0 <= momentum < 1:
      raise ValueError(f"momentum: {momentum} is not in [0, 1)")
    self.model = model
    self.noise = noise
    self.activations = activations
    self.momentum = momentum
    self.deterministic = False
    self.ships = False
    traced = Traced(model, example)
    program = traced.program
    self.weights = _schemes(
      [layer.names for layer in traced.layers], weights, layers or {}
    )
    ranges = np.asarray(
      [site.fixed_range or (0.0, 0.0) for site in program.sites], np.float32
    ).reshape(-1, 2)
    self.low, self.high = (Range(jnp.asarray(each)) for each in ranges.T)
    self.demanded = tuple(
      site.fixed_range is not None for site in program.sites
    )
    self.steps_seen = Range(jnp.zeros((), jnp.int32))
    self.factors = nnx.data(
      nnx.Param(jnp.ones(len(program.sites))) if learned else None
    )
    self.scales: Any = nnx.Dict()
    self.traced_as = _account(traced)
    parts = zip(traced.layers, self.weights, traced.weights(), strict=True)
    for place, (layer, scheme, weight) in enumerate(parts):
      if scheme is None:
        continue
      axis = layer.operation.axis
      _check(scheme, layer.names, axis, learned)
      x = scheme.arrange(weight, axis)  # Groups that don't fit are told.
      if learned:
        self.scales[str(place)] = nnx.Param(_first_step(scheme, x, axis))

  def ship(self) -> None:
    """Has scales become part of the program, for a file to take over."""
    self.eval()
    self.ships = True

  def __call__(self, x: Array) -> Array:
    traced = Traced(self.model, x)
    program = traced.program
    if _account(traced) != self.traced_as:
      raise UserError(
        f"a batch of shape {x.shape} is computed otherwise than the one this "
        "model was quantized with; give examples of the shape that ships, one "
        "at a time"
      )
    places = {site: place for place, site in enumerate(program.sites)}
    contractions = {each: n for n, each in enumerate(program.contractions)}
    with now(self.low[...], self.high[...]):
      low, high = list(self.low[...]), list(self.high[...])
    seen: dict[Site, tuple[Array, Array]] = {}
    first = self.steps_seen[...] == 0

    def watch(site: Site, array: Any) -> None:
      if site.fixed_range is not None:
        return
      array = jax.lax.stop_gradient(jnp.asarray(array, jnp.float32))
      ends = jnp.min(array, initial=0), jnp.max(array, initial=0)
      if site in seen:
        ends = (
          jnp.minimum(ends[0], seen[site][0]),
          jnp.maximum(ends[1], seen[site][1]),
        )
      seen[site] = ends
      place = places[site]
      for known, end, old in zip(
        (low, high), ends, (self.low, self.high), strict=True
      ):
        mean = self.momentum * old[place] + (1 - self.momentum) * end
        known[place] = jnp.where(first, end, mean)

    def parameters(place: int) -> tuple[Array, Array]:
      assert self.activations is not None
      with now(low[place], high[place]):
        scale, zero = _parameters(self.activations, low[place], high[place])
        if self.factors is not None:
          scale = scale * self.factors[place]
      return scale, zero

    def activation(site: Site, value: Value, array: Array) -> Array:
      if self.activations is None or array.ndim > _MOST_AXES:
        return array
      if not self.deterministic and value in site.makers:
        watch(site, array)
      return self._fake(
        self.activations, array, None, *parameters(places[site])
      )

    def constant(operation: Operation, place: int, array: Any) -> Any:
      if place == operation.weight:
        return self.rounded_weight(
          contractions[operation], operation.axis, array
        )
      if self.activations is None:
        return array
      array = jnp.asarray(array)
      if operation.kind is Kind.MOVE:
        site = operation.output.site
        assert site is not None
        if not self.deterministic:
          watch(site, array)
        ends = parameters(places[site])
      else:
        with now(array):
          ends = _parameters_of(self.activations, jnp.asarray(array), None)
      return self._fake(self.activations, array, None, *ends)

    (result,) = program([*traced.leaves, x], activation, constant)
    if not self.deterministic:
      self.low[...], self.high[...] = jnp.stack(low), jnp.stack(high)
      self.steps_seen[...] += 1
    return result

  def watched(self, x: Array) -> list[list[Array]]:
    """Returns what each site sees of a batch, unrounded."""
    traced = Traced(self.model, x)
    program = traced.program
    found: dict[Site, list[Array]] = {site: [] for site in program.sites}

    def activation(site, value, array):
      if value in site.makers:
        found[site].append(array)
      return array

    def constant(operation, place, array):
      if place != operation.weight and operation.kind is Kind.MOVE:
        found[operation.output.site].append(jnp.asarray(array))
      return array

    program([*traced.leaves, x], activation, constant)
    return list(found.values())

  def rounded_weight(self, place: int, axis: int | None, array: Array) -> Array:
    """Returns a weight as it is computed with.

    Args:
      place: of the layer.
      axis: of its output channels.
      array: the weight.
    """
    scheme = self.weights[place]
    if scheme is None:
      return array
    with now(array):
      x = scheme.arrange(array, axis)
      scale, zero = self._weight_parameters(scheme, place, axis, x)
    x = self._fake(scheme, x, axis, scale, zero)
    x = scheme.restore(x, array.shape, axis)
    if self.deterministic or self.noise == 1:
      return x
    key = jax.random.fold_in(jax.random.key(place), self.steps_seen[...])
    return jnp.where(
      jax.random.bernoulli(key, self.noise, array.shape), x, array
    )

  def _weight_parameters(
    self, scheme: Scheme, place: int, axis: int | None, x: Array
  ) -> tuple[Array, Array]:
    if str(place) not in self.scales:
      x = jax.lax.stop_gradient(x.astype(jnp.float32))
      scale, zero = _parameters_of(scheme, x, axis)
    else:
      kept = self.scales[str(place)]
      scale = kept[...]
      if isinstance(kept, nnx.Param):
        size = x.size / scale.size * max(scheme.levels)
        scale = jnp.abs(scaled_gradient(scale, size**-0.5))
      zero = jnp.zeros_like(scale)
    return _floored(scale), zero

  def _fake(
    self,
    scheme: Scheme,
    x: Array,
    axis: int | None,
    scale: Array,
    zero: Array,
  ) -> Array:
    known = not any(isinstance(each, Tracer) for each in (scale, zero))
    stored = _stored(scheme, self.activations)
    if stored == "i4" and axis is None and not isinstance(x, Tracer):
      stored = "i8"  # Products with such weights have no other kernels.
    noted = self.ships and known and stored and isinstance(scheme.per, str)
    if not (noted and isinstance(x, Tracer)):
      with now(x, scale, zero):
        # Constants too: LiteRT's converter can't round otherwise.
        x = _fake(scheme, x, scale, zero)
    if not noted:
      return x
    least, most = scheme.levels
    attributes: dict[str, Any] = {
      "scale": np.asarray(scale, np.float32).reshape(-1),
      "zero_point": np.asarray(zero, np.int64).reshape(-1),
      "dtype": stored,
      "narrow_range": least == -most,
    }
    if scheme.per == "channel" and axis is not None:
      attributes["quantization_dimension"] = np.int32(axis)
    return _noted(lambda x: _fake(scheme, x, scale, zero), attributes)(x)


def _noted(
  fake: Callable[[Array], Array], attributes: dict[str, Any]
) -> Callable[[Array], Array]:
  """Returns what computes the same, with a note for LiteRT's converter."""

  @jax.custom_jvp
  def noted(x):
    call = jax.lax.composite(lambda x, **_: fake(x), "quant.fake_quant")
    return call(x, **attributes)

  noted.defjvp(lambda xs, dxs: jax.jvp(fake, xs, dxs))
  return noted


def _stored(scheme: Scheme, activations: Scheme | None) -> str:
  """Returns the type in a LiteRT file; none if it has no such."""
  if scheme.dtype in ("int8", "int4"):
    return f"i{scheme.bits}"
  if scheme.dtype in ("int2", "ternary", "binary"):
    # Products with integers have kernels for four bits, and not for fewer.
    return "i4" if activations is not None else "i2"
  return ""


@jax.jit
def _floored(scale: Array) -> Array:
  """Returns scales of which none is nothing beside the largest.

  A bias is stored in units of the product of two scales, in 32 bits, and would
  not fit those of a channel whose weights are next to zero.
  """
  return jnp.maximum(scale, jax.lax.stop_gradient(scale.max()) * 2.0**-14)


def _schemes(
  names: list[list[str]],
  weights: Scheme | None,
  layers: Mapping[str, Scheme | None],
) -> tuple[Scheme | None, ...]:
  """Returns the scheme of each weight."""
  found: list[Scheme | None] = [weights] * len(names)
  for pattern, scheme in layers.items():
    places = [
      place
      for place, paths in enumerate(names)
      if any(fnmatch.fnmatchcase(path, pattern) for path in paths)
    ]
    if not places:
      raise ValueError(
        f"layers: {pattern!r} is no weight's path; there are "
        f"{', '.join(path for paths in names for path in paths)}"
      )
    for place in places:
      found[place] = scheme
  return tuple(found)


def _account(traced: Traced) -> tuple[Any, ...]:
  """Returns what layers and places of rounding are known by."""
  layers = tuple(tuple(layer.names) for layer in traced.layers)
  sites = tuple(site.makers[0].maker for site in traced.program.sites)
  return layers, sites


def _check(
  scheme: Scheme, names: list[str], axis: int | None, learned: bool
) -> None:
  weight = " and ".join(names)
  if learned and not scheme.symmetric:
    raise ValueError(
      f"learned: the zero point of {weight} can't be; make its scheme symmetric"
    )
  if axis is None and not isinstance(scheme.per, str):
    raise ValueError(f"per: {weight} has no channels to divide into groups")


def _first_step(scheme: Scheme, x: Array, axis: int | None) -> Array:
  """Returns where learned scales begin: twice the mean size over levels."""
  axes = scheme.shared(x.ndim, axis)
  mean = jnp.mean(jnp.abs(x), axis=axes, keepdims=True)
  return jnp.maximum(2 * mean / max(scheme.levels) ** 0.5, 1e-9)
