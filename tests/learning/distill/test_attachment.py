"""Attachments are there for their owner, and gone without a trace."""

import chex
import jax
import numpy as np
from flax import nnx

from effarch.learning import LabelSmoothing
from effarch.learning.distill.attachment import attach, attached, detach

ONE, TWO = LabelSmoothing(0.1), LabelSmoothing(0.2)


def part(seed):
  return nnx.Linear(1, seed, rngs=nnx.Rngs(seed))


def test_each_owner_has_its_parts_wherever_the_model_went(net, batch):
  net.eval()
  before, logits = nnx.split(net), net(batch["inputs"])
  attach(net, ONE, [part(1)])
  attach(net, TWO, [part(2), part(3)])
  assert len(jax.tree.leaves(nnx.state(net, nnx.Param))) == 14
  np.testing.assert_array_equal(net(batch["inputs"]), logits)
  wrapped = nnx.Sequential(net)
  copied = nnx.merge(*nnx.split(wrapped))
  for model in (wrapped, copied):
    host, parts = attached(model, LabelSmoothing(0.2))
    assert host is model.layers[0]
    assert [each.out_features for each in parts] == [2, 3]
    assert detach(model, ONE) is model
    detach(model, TWO)
    graphdef, state = nnx.split(model.layers[0])
    assert graphdef == before[0]
    chex.assert_trees_all_equal(state, before[1])
