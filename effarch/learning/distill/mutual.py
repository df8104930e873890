"""Learning together with a peer, as deep mutual learning does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from flax import nnx

from effarch.architectures.models import MODELS
from effarch.config import build
from effarch.infrastructure.training import LossFn, Technique
from effarch.learning.checks import check_within
from effarch.learning.distill import losses
from effarch.learning.distill.attachment import attach, attached, detach
from effarch.learning.distill.logits import mean_asked
from effarch.learning.watch import complete, shapes, watch


@dataclasses.dataclass(frozen=True)
class MutualLearning(Technique):
  """Trains the model and a peer, each also on what the other says.

  Both losses add up, each with `weight T^2 KL(other || self)` that has no
  gradient for the other (arXiv:1706.00384). The peer's own loss is the
  cross-entropy; metrics are the model's, and `finish` leaves the peer.

  Args:
    peer: another model's config, a `name` of `MODELS` and arguments
      (`vocab_size` where it takes tokens); or a function of `rngs`.
    weight: of the divergence; 0 has no peer.
    temperature: `T`.
    seed: draws the peer's parameters.
  """

  peer: Any = dataclasses.field(hash=False)
  weight: float = 1.0
  temperature: float = 1.0
  seed: int = 1

  def __post_init__(self):
    if not isinstance(self.peer, Mapping) and not callable(self.peer):
      raise ValueError(f"peer: {self.peer!r} is no config of a model")
    check_within("[0, inf)", weight=self.weight)
    check_within("(0, inf)", temperature=self.temperature)

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model, with its peer beside it.

    Raises:
      UserError: the peer's config is wrong.
    """
    if not self.weight:
      return model
    rngs = nnx.Rngs(self.seed)
    if isinstance(self.peer, Mapping):
      peer = build(
        MODELS,
        self.peer,
        "config.techniques.peer",
        input_shape=tuple(example.shape[1:]),
        num_classes=shapes(model, [""], example)[""].shape[-1],
        rngs=rngs,
      )
    else:
      peer = self.peer(rngs=rngs)
    return attach(model, self, [peer])

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.weight:
      return loss_fn

    def taught(model, batch):
      _, (peer,) = attached(model, self)
      with watch(model, [""]) as seen:
        own, metrics = loss_fn(model, batch)
      labels = batch["labels"]
      ours, others = complete(seen, [""])[""], peer(batch["inputs"])
      total = optax.softmax_cross_entropy(others, labels)
      for student, teacher in ((ours, others), (others, ours)):
        teacher = jax.lax.stop_gradient(teacher)
        total += self.weight * losses.soft_labels(
          student, teacher, self.temperature
        )
      return own + mean_asked(total, labels), metrics

    return taught

  def finish(self, model: nnx.Module) -> nnx.Module:
    return detach(model, self) if self.weight else model
