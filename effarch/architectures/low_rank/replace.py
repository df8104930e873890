"""Puts structured layers in the place of a model's dense ones.

Layers are named by their paths, as `measure` names them:
`blocks.0.mixer.query`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx

from effarch.architectures.convolution import Conv
from effarch.architectures.low_rank.conv import ConvStructure, StructuredConv
from effarch.architectures.low_rank.linear import StructuredLinear
from effarch.architectures.low_rank.structure import LinearStructure
from effarch.config import did_you_mean


@dataclasses.dataclass(frozen=True)
class Replacement:
  """What was replaced and what not.

  Args:
    replaced: paths, with numbers of the weight before and after.
    left: paths of further layers with dense weights, with the reason.
  """

  replaced: dict[str, tuple[int, int]]
  left: dict[str, str]

  def __str__(self) -> str:
    lines = [
      f"{path}: {before:,} numbers are now {after:,}"
      for path, (before, after) in self.replaced.items()
    ]
    lines += [f"{path}: left, {why}" for path, why in self.left.items()]
    return "\n".join(lines)


def replace_linear(
  model: nnx.Module,
  structure: LinearStructure,
  where: str = "*",
  *,
  rngs: nnx.Rngs | None = None,
) -> Replacement:
  """Replaces a model's `nnx.Linear` layers in place.

  Those that the structure does not fit, or with a product of their own, are
  left. A layer that stands in several places is still one.

  Args:
    model: holds the layers.
    structure: of the new weights; its size is chosen for each.
    where: a pattern of paths, of which `*` is any part.
    rngs: draws new weights; if None, the present ones are approximated.

  Raises:
    ValueError: no layer's path is such, or none of them could be replaced.
  """

  def make(layer: nnx.Linear) -> StructuredLinear:
    plain = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    for name in ("dot_general", "precision", "promote_dtype"):
      if getattr(layer, name) != getattr(plain, name):
        raise ValueError(f"it has a {name} of its own")
    kernel = layer.kernel[...]
    common = {
      "use_bias": layer.bias is not None,
      "dtype": layer.dtype,
      "param_dtype": kernel.dtype,
    }
    if rngs is None or structure.adapts:
      return StructuredLinear.from_dense(kernel, structure, **common)
    sizes = layer.in_features, layer.out_features
    return StructuredLinear(*sizes, structure, **common, rngs=rngs)

  return _replace(model, (nnx.Linear,), where, make)


def replace_conv(
  model: nnx.Module,
  structure: ConvStructure,
  where: str = "*",
  *,
  rngs: nnx.Rngs | None = None,
) -> Replacement:
  """Replaces a model's convolutions in place, `nnx.Conv` and `Conv`.

  Those in groups, and those that the structure does not fit, are left.

  Args:
    model: see `replace_linear`.
    structure: see `replace_linear`.
    where: see `replace_linear`.
    rngs: see `replace_linear`.

  Raises:
    ValueError: no layer's path is such, or none of them could be replaced.
  """

  def make(layer: Conv | nnx.Conv) -> StructuredConv:
    ours = isinstance(layer, Conv)
    groups = layer.groups if ours else layer.feature_group_count
    if groups != 1:
      raise ValueError(f"it has {groups} groups")
    dilation = layer.dilation if ours else layer.kernel_dilation
    kernel = layer.kernel[...]
    common = {
      "strides": layer.strides,
      "padding": layer.padding,
      "dilation": dilation,
      "use_bias": layer.bias is not None,
      "dtype": layer.dtype,
      "param_dtype": kernel.dtype,
    }
    if rngs is None:
      return StructuredConv.from_dense(kernel, structure, **common)
    *taps, channels, features = kernel.shape
    return StructuredConv(
      channels, features, taps, structure, **common, rngs=rngs
    )

  return _replace(model, (Conv, nnx.Conv), where, make)


def _replace(
  model: nnx.Module,
  kinds: tuple[type, ...],
  where: str,
  make: Callable[[Any], StructuredLinear | StructuredConv],
) -> Replacement:
  made: dict[int, StructuredLinear | StructuredConv] = {}
  replaced: dict[str, tuple[int, int]] = {}
  left: dict[str, str] = {}
  for path, parent, key, layer in list(_layers(model, kinds)):
    if not fnmatch.fnmatchcase(path, where):
      left[path] = f"its path is not {where}"
      continue
    if id(layer) not in made:
      try:
        made[id(layer)] = make(layer)
      except ValueError as error:
        left[path] = str(error)
        continue
    new = made[id(layer)]
    if new.bias is not None:
      new.bias[...] = layer.bias[...]
    trained = jax.tree.leaves(nnx.state(new.factors, nnx.Param))
    numbers = sum(factor.size for factor in trained)
    replaced[path] = layer.kernel[...].size, numbers
    if isinstance(key, int):
      parent[key] = new
    else:
      setattr(parent, key, new)
  if not replaced:
    raise ValueError(f"where: {_why_none(where, left)}")
  return Replacement(replaced, left)


def _layers(
  parent: nnx.Module, kinds: tuple[type, ...], path: str = ""
) -> Iterator[tuple[str, Any, Any, Any]]:
  """Yields paths, the modules that hold them, their keys there, and layers."""
  for key, child in nnx.iter_children(parent):
    here = f"{path}.{key}" if path else str(key)
    if type(child) in kinds:
      yield here, parent, key, child
    elif isinstance(child, nnx.Module):
      yield from _layers(child, kinds, here)


def _why_none(where: str, left: dict[str, str]) -> str:
  if not left:
    return f"the model has no such layers, by {where!r} or any path"
  tried = [why for path, why in left.items() if fnmatch.fnmatch(path, where)]
  if tried:
    return f"none of {where!r} could be replaced: {tried[0]}"
  return f"{where!r} is no layer's path; {did_you_mean(where, left)}"
