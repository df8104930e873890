"""NNX modules, Linen modules and functions as one kind of thing to measure.

A target applies parameters and state to inputs. While it is traced, each
module's operations are marked with the module's path; that is done from
outside, by the methods of its class.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from effarch.infrastructure.cost.program import scope

# By this beginning NNX's bridge knows what is no variable of a Linen module.
_PATH = "to_nnx__cost_path"


@dataclasses.dataclass
class Seen:
  """A module met while tracing.

  Args:
    kind: its class's name.
    outputs: the shapes and types that its last call returned.
  """

  kind: str
  outputs: list[jax.ShapeDtypeStruct] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Target:
  """What is measured.

  Args:
    apply: from `params`, `state` and inputs to outputs and new `state`.
    params: the trained arrays, or their shapes, as a tree.
    state: two trees: statistics, and what makes random numbers.
    watched: a context in which `apply` marks paths; it gives the modules seen,
      by path, in the order of their first calls.
    initialized: returns real `params` and `state`.
  """

  apply: Callable[..., tuple[Any, Any]]
  params: Any
  state: tuple[Any, Any]
  watched: Callable[[], contextlib.AbstractContextManager[dict[str, Seen]]]
  initialized: Callable[[], tuple[Any, Any]]


def target_of(
  model: Any, inputs: tuple[Any, ...], variables: Any, train: bool
) -> Target:
  """Returns what is to be measured of `model(*inputs)`.

  Args:
    model: an NNX module or a method of one, a Linen module, a function, or
      a `functools.partial` of these with keyword arguments.
    inputs: arrays or `jax.ShapeDtypeStruct`.
    variables: of a Linen module; or what a function takes before its inputs:
      a tree of parameters, Linen's collections, or an NNX module.
    train: NNX modules are put into training mode, else into evaluation mode.

  Raises:
    TypeError: `model` is none of these.
  """
  keywords = {}
  while isinstance(model, functools.partial) and not model.args:
    keywords = {**model.keywords, **keywords}
    model = model.func
  owner = getattr(model, "__self__", None)
  if isinstance(owner, nnx.Module):
    model, variables = _method(getattr(model, "__name__", "")), owner
  elif isinstance(model, nnx.Module):
    model, variables = _method("__call__"), model
  if isinstance(model, nn.Module):
    return _linen(model, inputs, keywords, variables, train)
  if not callable(model):
    raise TypeError(
      f"measure: {type(model).__name__} is no module and no function"
    )
  function = functools.partial(model, **keywords)
  if isinstance(variables, nnx.Module):
    return _nnx(function, variables, train)
  return _function(function, variables)


def _method(name: str) -> Callable[..., Any]:
  """Returns a function that calls a method, looked up when it is called."""
  return lambda module, *args, **kwargs: getattr(module, name)(*args, **kwargs)


def names(path: tuple[Any, ...]) -> tuple[str, ...]:
  """Returns the names on a leaf's path in a tree of variables."""
  # NNX and Linen box their leaves; the attribute that holds one is no name.
  keys = [k for k in path if not isinstance(k, jax.tree_util.GetAttrKey)]
  return tuple(str(getattr(k, "key", getattr(k, "idx", k))) for k in keys)


def _nnx(
  function: Callable[..., Any], model: nnx.Module, train: bool
) -> Target:
  graphdef, params, random, statistics = nnx.split(
    model, nnx.Param, nnx.RngState, ...
  )
  modules = {
    _dotted(path): module
    for path, module in nnx.iter_modules(model)
    if type(module) not in (nnx.List, nnx.Dict)
  }

  def apply(params, state, *inputs):
    own = nnx.merge(graphdef, params, *state, copy=True)
    if train:
      own.train()
    else:
      own.eval()
    for path, module in nnx.iter_modules(own):
      # A static attribute: it outlives what NNX's transforms do to modules.
      object.__setattr__(module, _PATH, _dotted(path))
    outputs = function(own, *inputs)
    _, _, random, statistics = nnx.split(own, nnx.Param, nnx.RngState, ...)
    return outputs, (statistics, random)

  @contextlib.contextmanager
  def watched():
    seen: dict[str, Seen] = {}
    within: list[str] = []
    classes = {type(module) for module in modules.values()}
    with _linen_watched(seen, within), _wrapped(classes, seen, within):
      yield seen
    for path, module in modules.items():
      seen.setdefault(path, Seen(type(module).__name__))

  state = (statistics, random)
  return Target(apply, params, state, watched, lambda: (params, state))


def _linen(
  module: nn.Module,
  inputs: tuple[Any, ...],
  keywords: dict[str, Any],
  variables: Any,
  train: bool,
) -> Target:
  def init(*inputs):
    key = jax.random.key(0)
    return module.init({"params": key, "dropout": key}, *inputs, **keywords)

  def initialize():
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
    return _collections(jax.jit(init)(*zeros))

  def apply(params, state, *inputs):
    statistics, _ = state
    found = module.apply(
      {"params": params, **statistics},
      *inputs,
      **keywords,
      rngs={"dropout": jax.random.key(0)},
      mutable=list(statistics) if train else False,
    )
    outputs, changed = found if train else (found, {})
    return outputs, ({**statistics, **changed}, {})

  if variables is None:
    params, state = _collections(jax.eval_shape(init, *inputs))
    return Target(apply, params, state, _linen_only, initialize)
  params, state = _collections(variables)
  return Target(apply, params, state, _linen_only, lambda: (params, state))


def _function(function: Callable[..., Any], variables: Any) -> Target:
  collections = isinstance(variables, Mapping) and "params" in variables
  params, state = (
    _collections(variables) if collections else (variables, ({}, {}))
  )

  def apply(params, state, *inputs):
    first = {"params": params, **state[0]} if collections else params
    given = () if variables is None else (first,)
    return function(*given, *inputs), state

  return Target(apply, params, state, _linen_only, lambda: (params, state))


def _collections(variables: Mapping[str, Any]) -> tuple[Any, Any]:
  """Returns Linen's parameters and state."""
  statistics = {k: v for k, v in variables.items() if k != "params"}
  return variables.get("params", {}), (statistics, {})


@contextlib.contextmanager
def _linen_only() -> Iterator[dict[str, Seen]]:
  seen: dict[str, Seen] = {}
  with _linen_watched(seen):
    yield seen


def _linen_watched(seen: dict[str, Seen], within: Sequence[str] = ()):
  """Marks what Linen modules do; they may be within an NNX module."""

  def intercept(method, args, kwargs, context):
    path = _dotted((*filter(None, within[-1:]), *context.module.path))
    seen.setdefault(path, Seen(type(context.module).__name__))
    with scope(path):
      outputs = method(*args, **kwargs)
    if context.method_name == "__call__":
      seen[path].outputs = _shapes(outputs)
    return outputs

  return nn.intercept_methods(intercept)


@contextlib.contextmanager
def _wrapped(
  classes: set[type], seen: dict[str, Seen], within: list[str]
) -> Iterator[None]:
  """Marks what NNX modules do that have a path, while the context lasts."""
  with contextlib.ExitStack() as stack:
    for cls in classes:
      for name, method in _methods(cls).items():
        own = name in vars(cls)
        restore = setattr if own else lambda cls, name, _: delattr(cls, name)
        stack.callback(restore, cls, name, method)
        setattr(cls, name, _marking(name, method, seen, within))
    yield


def _methods(cls: type) -> dict[str, Callable[..., Any]]:
  """Returns `__call__` and the public methods that a class adds to NNX's."""
  found = {}
  for base in cls.__mro__:
    if base is nnx.Module:
      break
    for name, method in vars(base).items():
      public = name == "__call__" or not name.startswith("_")
      if public and inspect.isfunction(method):
        found.setdefault(name, method)
  return found


def _marking(
  name: str,
  method: Callable[..., Any],
  seen: dict[str, Seen],
  within: list[str],
):
  @functools.wraps(method)
  def marked(self, *args, **kwargs):
    path = vars(self).get(_PATH)
    if path is None:
      return method(self, *args, **kwargs)
    seen.setdefault(path, Seen(type(self).__name__))
    within.append(path)
    try:
      with scope(path):
        outputs = method(self, *args, **kwargs)
    finally:
      within.pop()
    if name == "__call__":
      seen[path].outputs = _shapes(outputs)
    return outputs

  return marked


def _shapes(outputs: Any) -> list[jax.ShapeDtypeStruct]:
  return [
    jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    for leaf in jax.tree.leaves(outputs)
    if isinstance(leaf, jax.Array)
  ]


def _dotted(path: tuple[Any, ...]) -> str:
  return ".".join(map(str, path))
