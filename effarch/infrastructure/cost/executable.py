"""What is measured, compiled: its memory and its latency."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from effarch.infrastructure.cost.target import Target


class Executable:
  """A program that is compiled when its memory or latency is asked for.

  Args:
    function: of parameters, optimizer state, state and inputs.
    target: where real parameters come from.
    optimizer: whose update is part of the function, if any.
    inputs: arrays or shapes; zeros stand for shapes when it is run.
  """

  def __init__(
    self,
    function: Callable[..., Any],
    target: Target,
    optimizer: optax.GradientTransformation | None,
    inputs: tuple[Any, ...],
  ):
    self._function = function
    self._target = target
    self._optimizer = optimizer
    self._inputs = inputs

  @functools.cached_property
  def _compiled(self) -> tuple[Any, float]:
    target = self._target
    state = ()
    if self._optimizer:
      state = jax.eval_shape(self._optimizer.init, target.params)
    shapes = jax.tree.map(
      _shape, (target.params, state, target.state, self._inputs)
    )
    # A step writes its results where its arguments were, as a training does.
    donated = (0, 1) if self._optimizer else ()
    jitted = jax.jit(self._function, donate_argnums=donated)
    start = time.perf_counter()
    compiled = jitted.lower(*shapes).compile()
    return compiled, time.perf_counter() - start

  @property
  def is_compiled(self) -> bool:
    return "_compiled" in vars(self)

  @property
  def compile_seconds(self) -> float:
    return self._compiled[1]

  @property
  def peak_bytes(self) -> int:
    """Arguments, results and temporaries, as the compiler allots them."""
    memory = self._compiled[0].memory_analysis()
    return (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes
      + memory.temp_size_in_bytes
    )

  @functools.cached_property
  def live_peak_bytes(self) -> int | None:
    """What the device says it held at most, while this ran once.

    None where the platform does not tell, and where something that ran before
    in this process had held more.
    """
    device = jax.devices()[0]
    before = device.memory_stats()
    if not before:
      return None
    jax.block_until_ready(self.call()())
    after = device.memory_stats()["peak_bytes_in_use"]
    return after if after > before["peak_bytes_in_use"] else None

  def call(self) -> Callable[[], Any]:
    """Returns a function that runs the program once.

    Raises:
      ValueError: the model holds shapes, no arrays.
    """
    params, state = self._target.initialized()
    if any(
      isinstance(leaf, jax.ShapeDtypeStruct)
      for leaf in jax.tree.leaves((params, state))
    ):
      raise ValueError(
        "the model holds shapes only; its latency needs real arrays"
      )
    inputs = jax.tree.map(
      lambda x: (
        jnp.zeros(x.shape, x.dtype)
        if isinstance(x, jax.ShapeDtypeStruct)
        else x
      ),
      self._inputs,
    )
    compiled, _ = self._compiled
    if not self._optimizer:
      return lambda: compiled(params, (), state, inputs)
    # The model's own arrays stay: what is given away are copies.
    params = jax.tree.map(jnp.copy, params)
    shardings = list(compiled.input_shardings[0][:2])
    held = jax.device_put([params, self._optimizer.init(params)], shardings)

    def step():
      held[0], held[1], _ = compiled(held[0], held[1], state, inputs)
      return held

    return step


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return leaf
  kind = jax.typeof(leaf)
  placed = isinstance(leaf, jax.Array) and leaf.committed
  return jax.ShapeDtypeStruct(
    kind.shape,
    kind.dtype,
    sharding=leaf.sharding if placed else None,
    weak_type=kind.weak_type,
  )
