"""Costs by module: NNX through its transforms, and named scopes."""

import concurrent.futures
import functools
import importlib

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from effarch.infrastructure.cost import measure
from effarch.infrastructure.cost.target import called, target_of
from effarch.testing import check_report

# The package's `measure` is the function.
module = importlib.import_module("effarch.infrastructure.cost.measure")


class Block(nnx.Module):
  def __init__(self, size, rngs):
    self.up = nnx.Linear(size, 2 * size, rngs=rngs)
    self.down = nnx.Linear(2 * size, size, rngs=rngs)

  def __call__(self, x):
    return x + self.down(nnx.relu(self.up(x)))


def call(block, x):
  return block(x)


def in_order(blocks, x):
  for block in blocks:
    x = block(x)
  return x


def in_jit(blocks, x):
  for block in blocks:
    x = nnx.jit(call)(block, x)
  return x


def in_remat(blocks, x):
  for block in blocks:
    x = nnx.remat(call)(block, x)
  return x


def in_vmap(blocks, x):
  for block in blocks:
    x = nnx.vmap(call, in_axes=(None, 0))(block, x)
  return x


def in_cond(blocks, x):
  for block in blocks:
    x = nnx.cond(x.sum() > 0, call, lambda _, x: x, block, x)
  return x


class Stack(nnx.Module):
  def __init__(self, run, rngs, size=4):
    self.run = run
    self.blocks = nnx.List([Block(size, rngs) for _ in range(3)])
    self.head = nnx.Linear(size, 2, rngs=rngs)

  def __call__(self, x):
    return self.head(self.run(self.blocks, x))

  def features(self, x, twice=False):
    return self.run(self.blocks, x + x if twice else x)


X = jnp.ones((5, 4))
MACS = 5 * 2 * 4 * 8  # Of a block


def stack(run=in_order):
  return Stack(run, nnx.Rngs(0))


@pytest.mark.parametrize("run", [in_order, in_jit, in_remat, in_vmap, in_cond])
@pytest.mark.parametrize("train", [False, True])
def test_rows_follow_the_tree_through_transforms(run, train):
  report = measure(stack(run), X, train=train)
  rows = report.by_module
  names = [
    "",
    *(f"blocks.{i}{part}" for i in range(3) for part in ("", ".up", ".down")),
    "head",
  ]
  assert list(rows) == names
  for i in range(3):
    assert rows[f"blocks.{i}"].params == 4 * 8 + 8 + 8 * 4 + 4
    assert rows[f"blocks.{i}"].kind == "Block"
    if not train:
      assert rows[f"blocks.{i}"].macs == MACS
      assert rows[f"blocks.{i}.up"].macs == MACS // 2
    else:
      # The block's output needs no second `down`.
      again = MACS // 2 if run is in_remat else 0
      first = MACS // 2 if i == 0 else 0  # No input gradient.
      assert rows[f"blocks.{i}"].macs == 3 * MACS + again - first
  check_report(report)


def test_stacked_blocks_in_a_scan_share_a_row():
  class Scanned(nnx.Module):
    def __init__(self, rngs):
      @nnx.split_rngs(splits=3)
      @nnx.vmap
      def make(rngs):
        return Block(4, rngs)

      self.blocks = make(rngs)

    def __call__(self, x):
      loop = nnx.scan(call, in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
      return loop(self.blocks, x)

  report = measure(Scanned(nnx.Rngs(0)), X)
  assert list(report.by_module) == ["", "blocks", "blocks.up", "blocks.down"]
  assert report.by_module["blocks"].macs == 3 * MACS
  assert report.by_module["blocks.up"].params == 3 * (4 * 8 + 8)
  check_report(report)


def test_items_of_containers_are_the_model_s_own():
  class Named(nnx.Module):
    def __init__(self, rngs):
      layers = {name: nnx.Linear(4, 4, rngs=rngs) for name in "ab"}
      self.layers = nnx.Dict(layers)

    def __call__(self, x):
      for layer in self.layers.values():
        x = layer(x)
      return x

  report = measure(Named(nnx.Rngs(0)), jnp.ones((2, 4)))
  assert list(report.by_module) == ["", "layers.a", "layers.b"]
  assert report.macs == 2 * 2 * 4 * 4


def test_outputs_are_what_a_module_returned():
  class Two(nnx.Module):
    def __init__(self, rngs):
      self.stack = stack()
      self.narrow = nnx.Linear(2, 2, dtype=jnp.bfloat16, rngs=rngs)

    def __call__(self, x):
      out = self.stack(x)
      return {"a": out, "b": self.narrow(out), "c": None, "d": 3}

  rows = measure(Two(nnx.Rngs(0)), X).by_module
  assert (rows[""].output, rows[""].dtype) == ("5x2, 5x2", "float32, bfloat16")
  assert rows["stack.blocks.1.up"].output == "5x8"
  assert rows["narrow"].dtype == "bfloat16"


def test_methods_and_keywords():
  model = stack()
  whole, part = measure(model, X), measure(model.features, X)
  assert part.macs == 3 * MACS == whole.macs - 5 * 4 * 2
  assert part.by_module["head"].macs == 0
  # What is not called still holds its parameters.
  assert part.params == whole.params
  scaled = measure(functools.partial(model.features, twice=True), X)
  assert scaled.flops == part.flops + X.size


def test_own_methods_belong_to_their_module():
  class Tied(nnx.Module):
    def __init__(self, rngs):
      self.embed = nnx.Embed(10, 4, rngs=rngs)

    def __call__(self, tokens):
      return self.embed.attend(self.embed(tokens))

  report = measure(Tied(nnx.Rngs(0)), jnp.zeros((3,), jnp.int32))
  assert report.by_module["embed"].macs == 3 * 4 * 10
  assert report.by_module["embed"].output == "3x4"
  assert report.by_module[""].own.macs == 0


def test_classes_and_model_are_left_as_they_were():
  model = stack()
  model.head.train()
  methods = {
    cls: dict(vars(cls)) for cls in (Stack, Block, nnx.Linear, nnx.Module)
  }
  before = nnx.split(model)
  measure(model, X, train=True)
  with pytest.raises(TypeError):
    measure(model, X, X, X)
  for cls, kept in methods.items():
    assert dict(vars(cls)) == kept
  graphdef, state = nnx.split(model)
  assert graphdef == before[0]
  assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, state, before[1])))


def test_a_subclass_keeps_what_it_inherits():
  class Named(Block):
    pass

  class Doubled(Block):
    def __call__(self, x):
      return super().__call__(super().__call__(x))

  for cls, times in ((Named, 1), (Doubled, 2)):
    report = measure(cls(4, nnx.Rngs(0)), X)
    assert report.macs == times * MACS
    assert list(report.by_module) == ["", "up", "down"]
    assert ("__call__" in vars(cls)) == (cls is Doubled)


def test_mode_is_that_of_the_measurement():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
      return self.norm(x)

  model = Net(nnx.Rngs(0))
  trained, used = (measure(model, X, train=t) for t in (True, False))
  # Statistics of the batch are computed in training alone.
  model.eval()
  assert measure(model, X).flops == used.flops
  assert measure(model, X, train=True).flops == trained.flops
  assert used.statistics == 8


def test_named_scopes_are_the_rows_of_a_function():
  def function(w, x):
    with jax.named_scope("first"):
      x = jnp.einsum("ij,jk->ik", x, w)
      with jax.named_scope("inner"):
        x = jnp.tanh(x) @ w
    with jax.named_scope("second"):
      return jax.checkpoint(lambda x: jnp.sin(x @ w))(x)

  w = jnp.ones((4, 4))
  plain = measure(function, X, variables=w)
  assert list(plain.by_module) == ["", "first", "first.inner", "second"]
  assert plain.by_module["first"].macs == 2 * plain.by_module["second"].macs
  step = measure(function, X, variables=w, train=True)
  assert list(step.by_module) == list(plain.by_module)
  # Forward, again, and two gradients.
  assert step.by_module["second"].macs == 4 * plain.by_module["second"].macs
  check_report(step)


def test_parameters_of_a_function_lie_in_the_scopes_of_their_names():
  def function(params, x):
    with jax.named_scope("layer"):
      return x @ params["layer"]["w"] + params["bias"]

  params = {"layer": {"w": jnp.ones((4, 3))}, "bias": jnp.ones(3)}
  rows = measure(function, X, variables=params).by_module
  assert rows["layer"].params == 12
  assert rows[""].own.params == 3


def test_optimizer_has_a_row_and_a_state():
  model = stack()
  tx = optax.adam(1e-3)
  plain, step = (measure(model, X, train=True, optimizer=o) for o in (None, tx))
  assert step.macs == plain.macs
  row = step.by_module["(optimizer)"]
  assert row.flops == step.flops - plain.flops > 10 * step.params
  # Two moments and a counter.
  assert step.optimizer_bytes == 2 * 4 * step.params + 4
  assert plain.optimizer_bytes == 0
  check_report(step)


def test_loss_is_part_of_the_step():
  model = stack()
  plain = measure(model, X, train=True)
  squared = measure(model, X, train=True, loss=lambda out: (out**2).sum())
  assert squared.macs == plain.macs
  assert squared.flops > plain.flops


def test_what_is_no_model_is_refused():
  with pytest.raises(TypeError, match="int is no module and no function"):
    measure(3, X)
  with pytest.raises(ValueError, match=r"no parameters to train.*variables"):
    measure(jnp.tanh, X, train=True)


def test_outer_keywords_of_partials_win():
  inner = functools.partial(stack().features, twice=True)
  outer = functools.partial(inner, twice=False)
  assert measure(outer, X).flops == measure(stack().features, X).flops


def test_random_numbers_go_on_in_training():
  class Noisy(nnx.Module):
    def __init__(self, rngs):
      self.dense = nnx.Linear(4, 4, rngs=rngs)
      self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
      return self.drop(self.dense(x))

  step = measure(Noisy(nnx.Rngs(0)), X, train=True)
  _, _, (_, random) = step.executable.call()()
  counts = [
    leaf for leaf in jax.tree.leaves(random) if leaf.dtype == jnp.uint32
  ]
  assert any((leaf > 0).any() for leaf in counts)


def test_parents_come_first_whatever_is_called_first():
  class Crossed(nnx.Module):
    def __init__(self, rngs):
      self.a, self.b = Block(4, rngs), Block(4, rngs)

    def __call__(self, x):
      return self.a(self.b.down(self.b.up(x)))

  rows = measure(Crossed(nnx.Rngs(0)), X).by_module
  # `b` itself is never called.
  assert list(rows) == ["", "a", "a.up", "a.down", "b", "b.up", "b.down"]
  assert rows["b"].macs == MACS


def test_gradient_is_that_of_the_sum_of_real_outputs():
  def function(w, x):
    out = jnp.sin(x @ w)
    return {"out": out, "class": out.argmax(-1), "twice": 2 * out}

  w = jnp.arange(12.0).reshape(4, 3)
  gradient, _, _ = measure(
    function, X, variables=w, train=True
  ).executable.call()()
  expected = jax.grad(lambda w: 3 * jnp.sin(X @ w).sum())(w)
  chex.assert_trees_all_close(gradient, expected, rtol=1e-5)


def test_program_reads_its_arguments_in_their_order():
  model = Stack(in_order, nnx.Rngs(0))
  model.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
  model.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
  model, arrays, join = called(model, (X,))
  target = target_of(model, arrays, join, None, train=True)
  state = optax.adam(0.1).init(target.params)
  values = module._values(target.params, state, target.state, (X,))
  leaves = jax.tree.leaves((target.params, state, target.state, (X,)))
  assert [v.shape for v in values] == [leaf.shape for leaf in leaves]
  assert [v.dtype for v in values] == [leaf.dtype for leaf in leaves]
  statistics = jax.tree.leaves(target.state[0])
  fixed = sum(value.fixed for value in values)
  assert fixed == len(jax.tree.leaves(target.params)) + len(statistics)


def test_threads_measure_one_after_the_other():
  methods = dict(vars(Block))
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda _: measure(stack(), X), range(8)))
  assert len({report.macs for report in found}) == 1
  assert all(list(r.by_module) == list(found[0].by_module) for r in found)
  assert dict(vars(Block)) == methods
