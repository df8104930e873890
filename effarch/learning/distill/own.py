"""Being one's own teacher (arXiv:1905.08094)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import optax
from flax import nnx

from effarch.infrastructure.training import LossFn, Technique
from effarch.learning.checks import check_within
from effarch.learning.distill import losses
from effarch.learning.distill.attachment import attach, attached, detach
from effarch.learning.distill.inner import pooled
from effarch.learning.distill.logits import mean_asked
from effarch.learning.watch import complete, shapes, watch


@dataclasses.dataclass(frozen=True)
class SelfDistill(Technique):
  """Trains classifiers of inner tensors on labels and on the model's logits.

  Each is a linear layer of the mean over places (of each token, where tokens
  have classes) and adds `weight ((1 - alpha) cross-entropy + alpha T^2
  KL(model || classifier))` to the loss; `finish` takes them off. The paper's
  deeper classifiers and its hints are left out.

  Args:
    layers: paths of modules.
    alpha: in [0, 1], the model's share in what classifiers learn from.
    temperature: `T`.
    weight: of the classifiers; 0 has none.
    seed: draws them.
  """

  layers: Sequence[str]
  alpha: float = 0.5
  temperature: float = 3.0
  weight: float = 1.0
  seed: int = 0

  def __post_init__(self):
    if isinstance(self.layers, str) or not self.layers:
      raise ValueError(f"layers: {self.layers!r} are no paths, ('layers.3',)")
    object.__setattr__(self, "layers", tuple(self.layers))
    check_within("[0, 1]", alpha=self.alpha)
    check_within("(0, inf)", temperature=self.temperature)
    check_within("[0, inf)", weight=self.weight)

  def model(
    self, model: nnx.Module, example: jax.ShapeDtypeStruct
  ) -> nnx.Module:
    """Returns the model, with classifiers beside it.

    Raises:
      UserError: a path is that of no module that is called.
    """
    if not self.weight:
      return model
    found = shapes(model, ["", *self.layers], example)
    num_classes, rngs = found[""].shape[-1], nnx.Rngs(self.seed)
    classifiers: list[nnx.Module] = [
      nnx.Linear(found[path].shape[-1], num_classes, rngs=rngs)
      for path in self.layers
    ]
    return attach(model, self, classifiers)

  def loss(self, loss_fn: LossFn) -> LossFn:
    if not self.weight:
      return loss_fn

    def distilled(model, batch):
      host, classifiers = attached(model, self)
      with watch(model, [""]) as final, watch(host, self.layers) as seen:
        total, metrics = loss_fn(model, batch)
      complete(seen, self.layers)
      teacher = jax.lax.stop_gradient(complete(final, [""])[""])
      labels = batch["labels"]
      for path, classify in zip(self.layers, classifiers, strict=True):
        x = seen[path] if labels.ndim > 2 else pooled(seen[path])
        logits = classify(x).astype("float32")
        plain = optax.softmax_cross_entropy(logits, labels)
        distance = losses.soft_labels(logits, teacher, self.temperature)
        added = (1 - self.alpha) * plain + self.alpha * distance
        total += self.weight * mean_asked(added, labels)
      return total, metrics

    return distilled

  def finish(self, model: nnx.Module) -> nnx.Module:
    return detach(model, self) if self.weight else model
