"""What is minimized, and what is reported."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from flax import nnx

from effarch.infrastructure.training.technique import Batch, Losses


def classification_loss(model: nnx.Module, batch: Batch) -> Losses:
  """Cross-entropy of each example in nats, and whether its class is right.

  Where each token has a class, both are means over the tokens that are asked.
  A label that is a mixture counts as its likeliest class.
  """
  logits = model(batch["inputs"])
  labels = batch["labels"]
  loss = optax.softmax_cross_entropy(logits, labels)
  right = jnp.argmax(logits, axis=-1) == jnp.argmax(labels, axis=-1)
  right = right.astype(jnp.float32)
  if loss.ndim > 1:
    asked = labels.any(-1)
    shares = asked / jnp.maximum(asked.sum(-1, keepdims=True), 1)
    loss, right = jnp.sum(loss * shares, -1), jnp.sum(right * shares, -1)
  return loss, {"accuracy": right}
