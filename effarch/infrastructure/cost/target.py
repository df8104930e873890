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
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from effarch.infrastructure.cost.program import scope

# By this beginning NNX's bridge knows what is no variable of a Linen module.
_PATH = "to_nnx__cost_path"
# Classes are changed while a model is traced: one thread at a time.
_TRACING = threading.RLock()


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
    state: two trees: statistics; and caches, and what makes random numbers.
    watched: a context in which `apply` marks paths; it gives the modules seen,
      by path, in the order of their first calls.
    initialized: returns real `params` and `state`.
  """

  apply: Callable[..., tuple[Any, Any]]
  params: Any
  state: tuple[Any, Any]
  watched: Callable[[], contextlib.AbstractContextManager[dict[str, Seen]]]
  initialized: Callable[[], tuple[Any, Any]]


def called(model: Any, inputs: tuple[Any, ...]) -> tuple[Any, Any, Any]:
  """Returns what is called, the arrays it gets, and what puts them in place.

  What is no array, of inputs and of a partial's keywords, is a constant.

  Args:
    model: what `measure` was given.
    inputs: likewise.
  """
  keywords = {}
  while isinstance(model, functools.partial):
    keywords = {**model.keywords, **keywords}
    model, inputs = model.func, (*model.args, *inputs)
  leaves, structure = jax.tree.flatten((inputs, keywords))
  arrays = tuple(filter(_is_array, leaves))

  def join(arrays):
    rest = iter(arrays)
    return structure.unflatten(
      [next(rest) if _is_array(leaf) else leaf for leaf in leaves]
    )

  wrapped = inspect.unwrap(model) if callable(model) else model
  if isinstance(wrapped, nnx.Module):
    model = wrapped  # jax.jit(model) and nnx.jit(model) are the model.
  return model, arrays, join


def _is_array(leaf: Any) -> bool:
  kinds = jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct
  return isinstance(leaf, kinds)


def target_of(
  model: Any, arrays: tuple[Any, ...], join: Any, variables: Any, train: bool
) -> Target:
  """Returns what is to be measured of a call.

  Args:
    model: an NNX module or a method of one, a Linen module, or a function.
    arrays: that it gets, or their `jax.ShapeDtypeStruct`.
    join: from these to positional and keyword arguments.
    variables: of a Linen module; or what a function takes before its inputs:
      a tree of parameters, Linen's collections, or an NNX module.
    train: NNX modules are put into training mode, else into evaluation mode.

  Raises:
    TypeError: `model` is none of these.
  """
  owner = getattr(model, "__self__", None)
  if isinstance(owner, nnx.Module):
    model, variables = _method(getattr(model, "__name__", "")), owner
  elif isinstance(model, nnx.Module):
    model, variables = _method("__call__"), model
  if isinstance(model, nn.Module):
    return _linen(model, arrays, join, variables, train)
  if isinstance(model, type):
    raise TypeError(
      f"measure: {model.__name__} is a class; make a module of it first"
    )
  if not callable(model):
    raise TypeError(
      f"measure: {type(model).__name__} is no module and no function"
    )
  if isinstance(variables, nnx.Module):
    return _nnx(model, join, variables, train)
  return _function(model, join, variables)


def _method(name: str) -> Callable[..., Any]:
  """Returns a function that calls a method, looked up when it is called."""
  return lambda module, *args, **kwargs: getattr(module, name)(*args, **kwargs)


def names(path: tuple[Any, ...]) -> tuple[str, ...]:
  """Returns the names on a leaf's path in a tree of variables."""
  # NNX and Linen box their leaves; the attribute that holds one is no name.
  keys = [k for k in path if not isinstance(k, jax.tree_util.GetAttrKey)]
  return tuple(str(getattr(k, "key", getattr(k, "idx", k))) for k in keys)


def _nnx(
  function: Callable[..., Any], join: Any, model: nnx.Module, train: bool
) -> Target:
  # A cache is filled with activations: it is no weight, and no statistic.
  parts = (nnx.Param, (nnx.RngState, nnx.Cache), ...)
  graphdef, params, random, statistics = nnx.split(model, *parts)
  modules = {_dotted(path): module for path, module in _modules(model)}

  def apply(params, state, *arrays):
    args, keywords = join(arrays)
    own = nnx.merge(graphdef, params, *state, copy=True)
    if train:
      own.train()
    else:
      own.eval()
    for path, module in _modules(own):
      # A static attribute: it outlives what NNX's transforms do to modules.
      object.__setattr__(module, _PATH, _dotted(path))
    outputs = function(own, *args, **keywords)
    _, _, random, statistics = nnx.split(own, *parts)
    return outputs, (statistics, random)

  @contextlib.contextmanager
  def watched():
    seen: dict[str, Seen] = {}
    within: list[str] = []
    classes = {type(module) for module in modules.values()}
    with (
      _TRACING,
      _linen_watched(seen, within),
      _wrapped(classes, seen, within),
    ):
      yield seen
    for path, module in modules.items():
      seen.setdefault(path, Seen(type(module).__name__))

  state = (statistics, random)
  return Target(apply, params, state, watched, lambda: (params, state))


def _modules(model: nnx.Module) -> list[tuple[tuple[Any, ...], nnx.Module]]:
  """Returns all with their paths, but containers: an attribute is an item."""
  return [
    (path, module)
    for path, module in nnx.iter_modules(model)
    if type(module) not in (nnx.List, nnx.Dict)
  ]


def _linen(
  module: nn.Module,
  arrays: tuple[Any, ...],
  join: Any,
  variables: Any,
  train: bool,
) -> Target:
  def init(*arrays):
    key = jax.random.key(0)
    args, keywords = join(arrays)
    return module.init({"params": key, "dropout": key}, *args, **keywords)

  def initialize():
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), arrays)
    return _collections(jax.jit(init)(*zeros))

  def apply(params, state, *arrays):
    statistics, cache = state
    args, keywords = join(arrays)
    found = module.apply(
      {"params": params, **statistics, **cache},
      *args,
      **keywords,
      rngs={"params": jax.random.key(0), "dropout": jax.random.key(0)},
      mutable=[*cache, *(statistics if train else ())],
    )
    outputs, changed = found
    state = tuple(
      {name: changed.get(name, kept) for name, kept in part.items()}
      for part in state
    )
    return outputs, state

  if variables is None:
    params, state = _collections(jax.eval_shape(init, *arrays))
    return Target(apply, params, state, _linen_only, initialize)
  params, state = _collections(variables)
  return Target(apply, params, state, _linen_only, lambda: (params, state))


def _function(
  function: Callable[..., Any], join: Any, variables: Any
) -> Target:
  collections = isinstance(variables, Mapping) and "params" in variables
  params, state = (
    _collections(variables) if collections else (variables, ({}, {}))
  )

  def apply(params, state, *arrays):
    args, keywords = join(arrays)
    whole = {"params": params, **state[0], **state[1]}
    first = whole if collections else params
    given = () if variables is None else (first,)
    return function(*given, *args, **keywords), state

  return Target(apply, params, state, _linen_only, lambda: (params, state))


def _collections(variables: Mapping[str, Any]) -> tuple[Any, Any]:
  """Returns Linen's parameters and state."""
  rest = {k: v for k, v in variables.items() if k != "params"}
  cache = {"cache": rest.pop("cache")} if "cache" in rest else {}
  return variables.get("params", {}), (rest, cache)


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
      if public and _is_method(method):
        found.setdefault(name, method)
  return found


def _is_method(attribute: Any) -> bool:
  # Those that jax.jit and nnx.jit made are no Python functions.
  return (
    callable(attribute)
    and hasattr(type(attribute), "__get__")
    and not isinstance(attribute, type | staticmethod | classmethod)
  )


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
