"""One call that measures a model: `measure`."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.xla_metadata import set_xla_metadata

from effarch.infrastructure.cost.count import (
  Bits,
  Cost,
  add,
  by_path,
  chosen_bits,
  factor_dtypes,
)
from effarch.infrastructure.cost.executable import Executable
from effarch.infrastructure.cost.program import Value, read, scope
from effarch.infrastructure.cost.report import Report, Row
from effarch.infrastructure.cost.target import (
  Seen,
  Target,
  called,
  names,
  target_of,
)

_OPTIMIZER = "(optimizer)"
_RUNS = itertools.count()


def measure(
  model: Any,
  *inputs: Any,
  variables: Any = None,
  train: bool = False,
  loss: Callable[[Any], jax.Array] | None = None,
  optimizer: optax.GradientTransformation | None = None,
  bits: Bits | None = None,
  while_turns: int | None = None,
) -> Report:
  """Returns what `model(*inputs)` costs, module by module.

  Shapes alone are counted: the model is neither compiled nor run until the
  report is asked for its peak or its latency. Of real weights the zeros are
  counted too, after what the model itself makes of them, such as a cast.

  Args:
    model: an NNX module or a method of one, a Linen module, or a function; in
      a `functools.partial` if it takes keyword arguments, whose arrays are
      inputs too. An NNX module is copied and put into evaluation mode, or into
      training mode if `train`.
    *inputs: arrays or `jax.ShapeDtypeStruct`, or trees of them.
    variables: of a Linen module (else made by its `init`), or what a function
      takes before the inputs: a tree of parameters, Linen's collections, or
      an NNX module.
    train: measures a training step: forward, the gradient of every
      parameter, and the optimizer's update.
    loss: of a training step, from the model's output to a scalar; their sum,
      if there is none.
    optimizer: of a training step; without it the step ends at the gradient.
    bits: glob patterns of module paths, with the bits of their weights and
      activations, `{"*": (8, 8), "head": (32, 32)}`; of several that match
      the last one counts. Elsewhere types tell the bits.
    while_turns: how often each `while_loop` turns whose end no shape tells.

  Raises:
    TypeError: `model` is none of these.
    ValueError: a loop or a Pallas kernel can't be counted, or there is no
      parameter to train.
  """
  if optimizer and not train:
    raise ValueError(
      "measure: optimizer is of a training step; give train=True"
    )
  _check_bits(bits)
  model, inputs, join = called(model, inputs)
  target = target_of(model, inputs, join, variables, train)
  optimizer_state = ()
  if train:
    if not jax.tree.leaves(target.params):
      raise ValueError("measure: no parameters to train; give variables=...")
    if optimizer:
      optimizer_state = jax.eval_shape(optimizer.init, target.params)
    function = _training_step(target, loss or _total, optimizer)
  else:
    function = _inference(target)
  arguments = (target.params, optimizer_state, target.state, inputs)
  # In a context that was never there, jit traces anew what it traced before.
  fresh = set_xla_metadata(measured=str(next(_RUNS)))
  with target.watched() as seen, fresh:
    jaxpr = jax.make_jaxpr(function)(*arguments)
  modules = bool(seen)
  block = read(
    jaxpr, _values(*arguments), modules=modules, while_turns=while_turns
  )
  dtypes = factor_dtypes(block)
  seen.setdefault("", Seen(""))
  costs = collections.defaultdict(Cost, by_path(block, bits))
  for path in costs:
    # A scope in a scope is a row of each.
    scopes = (
      [path]
      if modules
      else itertools.accumulate(
        path.split("."), lambda outer, inner: f"{outer}.{inner}"
      )
    )
    for scope_path in scopes:
      seen.setdefault(scope_path, Seen(""))
  for path, cost in _held(target, seen, bits):
    costs[path] += cost
  return Report(
    **vars(add(list(costs.values()))),
    by_module=_rows(seen, costs),
    train=train,
    optimizer_bytes=sum(value.nbytes for value in _leaves(optimizer_state)),
    product_dtype=max(dtypes, key=dtypes.__getitem__, default="float32"),
    executable=Executable(function, target, optimizer, inputs),
  )


def _check_bits(bits: Any) -> None:
  for pattern, pair in (bits or {}).items():
    if not isinstance(pair, tuple | list) or len(pair) != 2:
      raise ValueError(
        f"measure: bits[{pattern!r}] is {pair!r}; give bits of weights and of "
        "activations, (8, 8)"
      )


def _inference(target: Target) -> Callable[..., Any]:
  def infer(params, optimizer_state, state, inputs):
    del optimizer_state
    return target.apply(params, state, *inputs)[0]

  return infer


def _training_step(
  target: Target,
  loss: Callable[[Any], jax.Array],
  optimizer: optax.GradientTransformation | None,
) -> Callable[..., Any]:
  def step(params, optimizer_state, state, inputs):
    def objective(params):
      outputs, new_state = target.apply(params, state, *inputs)
      return loss(outputs), new_state

    gradient, new_state = jax.grad(objective, has_aux=True)(params)
    if optimizer is None:
      return gradient, optimizer_state, new_state
    with scope(_OPTIMIZER):
      updates, optimizer_state = optimizer.update(
        gradient, optimizer_state, params
      )
      params = optax.apply_updates(params, updates)
    return params, optimizer_state, new_state

  return step


def _total(outputs: Any) -> jax.Array:
  """Returns the sum of all real outputs."""
  return sum(
    (
      jnp.sum(leaf)
      for leaf in jax.tree.leaves(outputs)
      if jnp.issubdtype(leaf.dtype, jnp.floating)
    ),
    jnp.zeros(()),
  )


def _values(params, optimizer_state, state, inputs) -> list[Value]:
  """Returns what a program reads, in the order of its arguments' leaves."""
  statistics, random = state
  return [
    *map(_weight, jax.tree.leaves(params)),
    *_leaves(optimizer_state),
    *map(_weight, jax.tree.leaves(statistics)),
    *_leaves((random, inputs)),
  ]


def _weight(leaf: Any) -> Value:
  known = isinstance(leaf, jax.Array | np.ndarray)
  content = (lambda: leaf) if known else None
  value = _value(leaf)
  return dataclasses.replace(value, fixed=True, weight=True, content=content)


def _leaves(tree: Any) -> list[Value]:
  return [_value(leaf) for leaf in jax.tree.leaves(tree)]


def _value(leaf: Any) -> Value:
  shaped = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
  return Value(tuple(shaped.shape), shaped.dtype)


def _held(
  target: Target, modules: Container[str], bits: Bits | None
) -> Iterable[tuple[str, Cost]]:
  """Yields what each parameter and statistic takes, with its module."""
  for trained, tree in ((True, target.params), (False, target.state[0])):
    for path, leaf in jax.tree.leaves_with_path(tree):
      value = _value(leaf)
      owner = next(iter(_outer(".".join(names(path)), modules)), "")
      chosen = chosen_bits(owner, bits)
      stored = value.nbytes
      if chosen and trained and len(value.shape) > 1:
        stored = -(-value.size * chosen[0] // 8)
      cost = Cost(size_bytes=value.nbytes, stored_bytes=stored)
      kind = "params" if trained else "statistics"
      yield owner, dataclasses.replace(cost, **{kind: value.size})


def _rows(
  seen: Mapping[str, Seen], costs: Mapping[str, Cost]
) -> dict[str, Row]:
  """Returns each module's row, after those of the modules it is in."""
  within: dict[str, list[Cost]] = {path: [] for path in seen}
  for path in seen:
    for outer in (path, *_outer(path, seen)):
      within[outer].append(costs.get(path, Cost()))
  order = {path: place for place, path in enumerate(seen)}

  def place(path: str) -> tuple[int, ...]:
    return tuple(order[p] for p in (*reversed(_outer(path, seen)), path))

  return {
    path: Row(
      **vars(add(within[path])),
      path=path,
      kind=seen[path].kind,
      outputs=tuple(seen[path].outputs),
      own=costs.get(path, Cost()),
    )
    for path in sorted(seen, key=place)
  }


def _outer(path: str, modules: Container[str]) -> list[str]:
  """Returns the modules that a module is in, innermost first."""
  found = []
  while path:
    path = path.rpartition(".")[0]
    if path in modules:
      found.append(path)
  return found
