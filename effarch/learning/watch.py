"""Inner tensors of any model, by the paths of the modules that make them.

A path is that of attributes and places in lists, `"layers.3"`; what the module
returns when it is called is its tensor. The model is not changed: while a
context lasts, its modules' classes note what they return.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from flax import nnx

from effarch.config import did_you_mean
from effarch.errors import UserError

# Classes are changed while a model is traced: one thread at a time.
_WATCHING = threading.RLock()


@contextlib.contextmanager
def watch(
  model: nnx.Module, paths: Iterable[str]
) -> Iterator[dict[str, jax.Array]]:
  """Gives what modules return in calls while the context lasts, by path.

  Of several calls it is the last. A call of a copy is none of the model's, so
  what is traced by copies, such as a quantized model's parts, is not seen.

  Args:
    model: whose modules these are.
    paths: of modules; `""` is the model itself.

  Raises:
    UserError: a path is that of no module.
  """
  seen: dict[str, jax.Array] = {}
  places: dict[int, list[str]] = {}
  classes = set()
  for path in paths:
    module = find(model, path)
    places.setdefault(id(module), []).append(path)
    classes.add(type(module))
  with _WATCHING, contextlib.ExitStack() as stack:
    for cls in classes:
      stack.enter_context(_noting(cls, places, seen))
    yield seen


@contextlib.contextmanager
def _noting(cls, places, seen):
  own, call = "__call__" in vars(cls), cls.__call__

  @functools.wraps(call)
  def noted(self, *args, **kwargs):
    output = call(self, *args, **kwargs)
    seen.update(dict.fromkeys(places.get(id(self), ()), output))
    return output

  cls.__call__ = noted
  try:
    yield
  finally:
    if own:
      cls.__call__ = call
    else:
      del cls.__call__


def find(model: nnx.Module, path: str) -> nnx.Module:
  """Returns the module at a path.

  Raises:
    UserError: there is none; the nearest is named.
  """
  modules = {".".join(map(str, p)): m for p, m in nnx.iter_modules(model)}
  if path not in modules:
    raise UserError(
      f"config.techniques.layers: {path!r} is no module of "
      f"{type(model).__name__}; {did_you_mean(path, filter(None, modules))}"
    )
  return modules[path]


def shapes(
  model: nnx.Module, paths: Iterable[str], example: Any
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes of inner tensors; nothing is computed.

  Args:
    model: behaves as in evaluation.
    paths: of modules.
    example: a batch, or its shape.

  Raises:
    UserError: a module is not there, or is not called.
  """
  paths = list(paths)
  graphdef, state = nnx.split(model)

  def call(state, x):
    copy = nnx.merge(graphdef, state)
    copy.eval()
    with watch(copy, paths) as seen:
      copy(x)
    return seen

  return complete(jax.eval_shape(call, state, example), paths)


def complete(seen: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
  """Returns what was seen.

  Raises:
    UserError: a module was not called.
  """
  for path in paths:
    if path not in seen:
      raise UserError(
        f"config.techniques.layers: {path or 'the model'!r} is not called, or "
        "in a copy alone, as by a technique that wraps the model"
      )
  return seen
