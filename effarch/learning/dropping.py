"""Layers whose results are disturbed in training, by surgery.

Wrappers stand around the layers only until the training is finished: what
ships is the plain model. In evaluation they do nothing.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any, ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Key

from effarch.config import did_you_mean
from effarch.errors import UserError
from effarch.infrastructure.training import Batch, LossFn, Technique
from effarch.learning.checks import check_within


class _Key(nnx.Variable):
  """Of the random numbers to draw next."""


class Wrapped(nnx.Module):
  """A layer that runs in a technique's way in training.

  Args:
    inner: the layer.
    technique: whose way it is.
    rate: for this layer.
  """

  def __init__(self, inner: nnx.Module, technique: Dropping, rate: float):
    self.inner: Any = inner
    self.technique = technique
    self.rate = rate
    self.deterministic = False
    self.key = _Key(jax.random.key(0))

  def __call__(self, x: Array, *args: Any, **keywords: Any) -> Array:
    if self.deterministic:
      return self.inner(x, *args, **keywords)
    # A layer that is called again draws other numbers.
    self.key[...], key = jax.random.split(self.key[...])
    return self.technique.run(
      lambda x: self.inner(x, *args, **keywords), x, self.rate, key
    )

  def __getattr__(self, name: str) -> Any:
    # Who runs a layer may look at it first, such as at a block's mixer.
    if name.startswith("_") or "inner" not in vars(self):
      raise AttributeError(name)
    return getattr(self.inner, name)


@dataclasses.dataclass(frozen=True)
class Dropping(Technique):
  """What the techniques that disturb layers share.

  Args:
    rate: in [0, 1); how much is dropped. 0 changes nothing.
    where: a pattern of the layers' paths, of which `*` is any part. Of layers
      in each other the outermost is taken.
  """

  rate: float
  where: str

  kinds: ClassVar[tuple[type, ...]]

  def __post_init__(self):
    check_within("[0, 1)", rate=self.rate)

  def run(self, layer: Any, x: Array, rate: float, key: Key[Array, ""]) -> Any:
    """Returns what the layer makes of `x`, disturbed."""
    raise NotImplementedError

  def rates(self, count: int) -> list[float]:
    """Returns the rate of each of so many layers."""
    return [self.rate] * count

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model with its layers wrapped.

    Raises:
      UserError: no layer's path is such.
    """
    if not self.rate:
      return model
    layers = list(_layers(model, self.kinds))
    found = [
      each for each in layers if fnmatch.fnmatchcase(each[0], self.where)
    ]
    if not found:
      hint = "the model has none"
      if layers:
        hint = did_you_mean(self.where, [path for path, *_ in layers])
      raise UserError(
        f"config.techniques.where: {self.where!r} is no layer's path; {hint}"
      )
    outermost = [
      each
      for each in found
      if not any(each[0].startswith(f"{path}.") for path, *_ in found)
    ]
    made: dict[int, Wrapped] = {}
    rates = self.rates(len(outermost))
    for (_, parent, key, layer), rate in zip(outermost, rates, strict=True):
      # A layer that stands in several places is still one.
      wrapped = made.setdefault(id(layer), Wrapped(layer, self, rate))
      _put(parent, key, wrapped)
    return model

  def batch(self, batch: Batch, rng: Key[Array, ""]) -> Batch:
    return {**batch, self._name: rng} if self.rate else batch

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.rate:
      return loss_fn

    def dropping(model, batch):
      for place, wrapped in enumerate(self._wrapped(model)):
        wrapped.key[...] = jax.random.fold_in(batch[self._name], place)
      return loss_fn(model, batch)

    return dropping

  def finish(self, model: nnx.Module) -> nnx.Module:
    """Returns the plain model."""
    for _, parent, key, child in list(_layers(model, (Wrapped,))):
      if child.technique == self:
        _put(parent, key, child.inner)
    return model

  @property
  def _name(self) -> str:
    return f"{type(self).__name__} {self.where}"

  def _wrapped(self, model):
    modules = [module for _, module in nnx.iter_modules(model)]
    return [
      module
      for module in modules
      if isinstance(module, Wrapped) and module.technique == self
    ]


def _layers(parent, kinds, path=""):
  """Yields paths, the modules that hold them, their keys there, and layers."""
  for key, child in nnx.iter_children(parent):
    if not isinstance(child, nnx.Module):
      continue
    here = f"{path}.{key}" if path else str(key)
    if isinstance(parent, Wrapped):
      here = path  # A layer's path is what it is without wrappers.
    if isinstance(child, kinds):
      yield here, parent, key, child
    yield from _layers(child, kinds, here)


def _put(parent, key, module):
  if isinstance(key, int):
    parent[key] = module
  else:
    setattr(parent, key, module)
