"""Costs by module of Linen modules, alone and within others."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax.errors import ModifyScopeVariableError

from effarch.infrastructure.cost import measure
from effarch.testing import check_report

X = jnp.ones((5, 4))
MACS = 5 * 2 * 4 * 8  # Of a block


class LinenBlock(nn.Module):
  @nn.compact
  def __call__(self, x):
    up = nn.Dense(2 * x.shape[-1], name="up")(x)
    return x + nn.Dense(x.shape[-1], name="down")(nn.relu(up))


class LinenStack(nn.Module):
  wrap: str = "none"

  @nn.compact
  def __call__(self, x, train=False):
    block = nn.remat(LinenBlock) if self.wrap == "remat" else LinenBlock
    if self.wrap == "scan":
      loop = nn.scan(
        lambda block, x, _: (block(x), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=3,
      )
      x, _ = loop(LinenBlock(name="blocks"), x, None)
    else:
      for i in range(3):
        x = block(name=f"blocks_{i}")(x)
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    return nn.Dense(2, name="head")(nn.Dropout(0.5, deterministic=not train)(x))


@pytest.mark.parametrize("wrap", ["none", "remat", "scan"])
def test_rows_follow_the_tree_through_transforms(wrap):
  report = measure(LinenStack(wrap), X)
  rows = report.by_module
  assert report.macs == 3 * MACS + 5 * 4 * 2
  # Three blocks, the norm and the head.
  assert report.params == 3 * (4 * 8 + 8 + 8 * 4 + 4) + 8 + 4 * 2 + 2
  assert report.statistics == 8
  if wrap == "scan":
    assert rows["blocks.up"].macs == 3 * MACS // 2
  else:
    assert rows["blocks_1.up"].macs == MACS // 2
    assert rows["blocks_2"].macs == MACS
  assert rows["head"].kind == "Dense"
  assert rows["head"].output == "5x2"
  check_report(report)


@pytest.mark.parametrize("wrap", ["none", "remat", "scan"])
def test_trains_with_keywords_statistics_and_dropout(wrap):
  step = measure(functools.partial(LinenStack(wrap), train=True), X, train=True)
  head, again = 5 * 4 * 2, 3 * MACS // 2 if wrap == "remat" else 0
  # A loop computes the first block's input gradient with all others.
  first = 0 if wrap == "scan" else MACS // 2
  assert step.macs == 3 * (3 * MACS + head) + again - first
  check_report(step)


def test_inside_a_function():
  module = LinenStack()
  variables = module.init(jax.random.key(0), X)
  report = measure(lambda v, x: module.apply(v, x * 2), X, variables=variables)
  whole = measure(module, X, variables=variables)
  assert list(report.by_module) == list(whole.by_module)
  assert report.flops == whole.flops + X.size
  assert report.params == whole.params
  assert report.statistics == whole.statistics


def test_partial_with_arguments_is_a_function():
  model = LinenStack()
  variables = model.init(jax.random.key(0), X)
  report = measure(functools.partial(model.apply, variables), X)
  assert report.macs == measure(model, X).macs
  assert "head" in report.by_module
  # What a function holds is no parameter of it.
  assert report.params == 0


def test_statistics_are_left_alone_but_in_training():
  module = LinenStack()
  variables = module.init(jax.random.key(0), X)
  used = functools.partial(module, train=True)
  with pytest.raises(ModifyScopeVariableError):
    measure(used, X, variables=variables)
  step = measure(used, X, variables=variables, train=True)
  _, _, (statistics, _) = step.executable.call()()
  before = variables["batch_stats"]["norm"]["mean"]
  assert (statistics["batch_stats"]["norm"]["mean"] != before).any()


def test_without_variables_runs_on_those_of_its_init():
  module = LinenStack()
  report = measure(module, jax.ShapeDtypeStruct(X.shape, X.dtype))
  variables = module.init(
    {"params": jax.random.key(0), "dropout": jax.random.key(0)},
    jnp.zeros_like(X),
  )
  zeros = jnp.zeros_like(X)
  out = report.executable.call()()
  chex.assert_trees_all_close(out, module.apply(variables, zeros), atol=1e-6)
  # Those that are given are the ones that run.
  given = jax.tree.map(jnp.ones_like, variables)
  out = measure(module, X, variables=given).executable.call()()
  chex.assert_trees_all_close(out, module.apply(given, X), atol=1e-6)


def test_inside_nnx():
  class Bridged(nnx.Module):
    def __init__(self, rngs):
      self.inner = nnx.bridge.ToNNX(LinenBlock(), rngs=rngs).lazy_init(X)

    def __call__(self, x):
      return self.inner(x)

  for train in (False, True):
    report = measure(Bridged(nnx.Rngs(0)), X, train=train)
    rows = report.by_module
    assert list(rows) == ["", "inner", "inner.up", "inner.down"]
    assert rows["inner.up"].params == 4 * 8 + 8
    assert rows["inner.up"].macs == MACS // 2 * (2 if train else 1)
    assert rows["inner"].macs == report.macs
    check_report(report)


def test_boxed_linen_parameters_have_their_own_names():
  class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
      init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
      return nn.Dense(3, kernel_init=init, name="value")(x)

  report = measure(Boxed(), X)
  assert report.by_module["value"].params == 4 * 3 + 3
  assert report.by_module[""].own.params == 0


def test_setup_and_helpers_do_not_overwrite_outputs():
  class Helped(nn.Module):
    def setup(self):
      self.dense = nn.Dense(3)

    def helper(self, x):
      return x.sum()

    def __call__(self, x):
      out = self.dense(x)
      return out + self.helper(out)

  class Outer(nn.Module):
    def setup(self):
      self.inner = Helped()

    def __call__(self, x):
      return self.inner(x) + self.inner.helper(x)

  row = measure(Outer(), X).by_module["inner"]
  assert (row.output, row.kind) == ("5x3", "Helped")
