"""What a student minimizes to be like its teacher, as pure functions.

Axes: `B` examples, `K` classes, `P` places, `C` channels of an inner tensor,
`D` all its numbers for one example. Each function returns one number for each
example; what compares examples with each other sees the whole batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def soft_labels(
  student: Float[Array, "*B K"],
  teacher: Float[Array, "*B K"],
  temperature: float,
) -> Float[Array, "*B"]:
  """Returns `T^2 KL(p_t || p_s)` with `p = softmax(logits / T)`.

  Hinton et al., arXiv:1503.02531. The factor keeps gradients' size whatever
  the temperature `T` is.
  """
  log_s, log_t = (
    jax.nn.log_softmax(x / temperature) for x in (student, teacher)
  )
  return temperature**2 * optax.losses.kl_divergence_with_log_targets(
    log_s, log_t
  )


def logit_matching(
  student: Float[Array, "*B K"], teacher: Float[Array, "*B K"]
) -> Float[Array, "*B"]:
  """Returns `|s - t|^2 / 2` (Ba and Caruana, arXiv:1312.6184)."""
  return jnp.square(student - teacher).sum(-1) / 2


def decoupled(
  student: Float[Array, "*B K"],
  teacher: Float[Array, "*B K"],
  labels: Float[Array, "*B K"],
  temperature: float,
  beta: float,
) -> Float[Array, "*B"]:
  """Returns `T^2 (TCKD + beta NCKD)` (arXiv:2203.08679).

  TCKD is the divergence of what the target's class and all others together
  get, NCKD that of the others among themselves. With the teacher's probability
  of the others in the place of `beta` it is `soft_labels`.

  Args:
    student: logits.
    teacher: logits.
    labels: the target is the likeliest class, the teacher's if none is asked.
    temperature: `T`.
    beta: of NCKD.
  """
  asked = labels.any(-1, keepdims=True)
  target = jnp.argmax(jnp.where(asked, labels, teacher), -1)
  is_target = jax.nn.one_hot(target, labels.shape[-1], dtype=bool)

  def parts(logits):
    log_p = jax.nn.log_softmax(logits / temperature)
    least = jnp.finfo(log_p.dtype).min
    log_target = jnp.where(is_target, log_p, 0).sum(-1)
    others = jnp.where(is_target, least, log_p)
    log_others = jax.nn.logsumexp(others, -1)
    binary = jnp.stack([log_target, log_others], -1)
    among = jnp.where(is_target, least, others - log_others[..., None])
    return binary, among

  (binary_s, among_s), (binary_t, among_t) = parts(student), parts(teacher)
  target_loss = optax.losses.kl_divergence_with_log_targets(binary_s, binary_t)
  gap = jnp.where(is_target, 0, among_t - among_s)
  others_loss = (jnp.exp(among_t) * gap).sum(-1)
  return temperature**2 * (target_loss + beta * others_loss)


def hints(
  student: Float[Array, "B ..."], teacher: Float[Array, "B ..."]
) -> Float[Array, " B"]:
  """Returns the mean square of `s - t` (FitNets, arXiv:1412.6550)."""
  return _flat(jnp.square(student - teacher)).mean(-1)


def attention_transfer(
  student: Float[Array, "B *P C"], teacher: Float[Array, "B *P D"]
) -> Float[Array, " B"]:
  """Returns `|q_s - q_t|^2`, with maps `q` of length 1 (arXiv:1612.03928).

  A map is the mean square over channels, at each place.
  """
  maps = (_unit(_flat(jnp.square(x).mean(-1))) for x in (student, teacher))
  return jnp.square(jnp.subtract(*maps)).sum(-1)


def relational(
  student: Float[Array, "B ..."], teacher: Float[Array, "B ..."]
) -> Float[Array, " B"]:
  """Returns Huber losses of distances, and twice that of angles (RKD).

  Park et al., arXiv:1904.05068. Distances between examples are divided by
  their mean; angles are cosines at each example between any two others. So
  neither scale nor rotation of the tensors counts. Takes `B^2 D` numbers.
  """
  (distance_s, angle_s), (distance_t, angle_t) = map(
    _relations, (student, teacher)
  )
  return optax.huber_loss(distance_s, distance_t).mean(
    -1
  ) + 2 * optax.huber_loss(angle_s, angle_t).mean((-2, -1))


def _relations(x):
  """Returns distances `B B` and cosines `B B B`, the corner first."""
  x = _flat(x)
  apart = x[None] - x[:, None]
  squares = jnp.square(apart).sum(-1)
  # The square root has no gradient at 0, where an example meets itself.
  away = squares > 0
  distances = jnp.where(away, jnp.sqrt(jnp.where(away, squares, 1)), 0)
  mean = distances.sum() / jnp.maximum(away.sum(), 1)
  toward = apart / jnp.where(away, distances, 1)[..., None]
  cosines = jnp.einsum("iad,ibd->iab", toward, toward, precision="highest")
  return distances / jnp.where(mean > 0, mean, 1), cosines


def similarity_preserving(
  student: Float[Array, "B ..."], teacher: Float[Array, "B ..."]
) -> Float[Array, " B"]:
  """Returns `|g_s - g_t|^2 / B`, with rows `g` of length 1 of `X X^T`.

  Tung and Mori, arXiv:1907.09682; their loss is the mean over the examples.
  """

  def rows(x):
    x = _flat(x)
    return _unit(jnp.matmul(x, x.T, precision="highest"))

  return jnp.square(rows(student) - rows(teacher)).mean(-1)


def contrastive(
  student: Float[Array, "B C"],
  teacher: Float[Array, "B C"],
  temperature: float,
) -> Float[Array, " B"]:
  """Returns how badly vectors tell their own partner among the batch's.

  After CRD (arXiv:1910.10699), with the batch's other examples as negatives
  instead of a memory of earlier ones: the mean of both cross-entropies, of
  student's vectors among the teacher's and the other way round.
  """
  scores = jnp.matmul(_unit(student), _unit(teacher).T, precision="highest")
  scores /= temperature
  own = jnp.arange(len(student))
  each = optax.softmax_cross_entropy_with_integer_labels
  return (each(scores, own) + each(scores.T, own)) / 2


def _flat(x):
  return x.reshape(len(x), -1)


def _unit(x):
  """Returns vectors of length 1, and zeros of zeros."""
  squares = jnp.square(x).sum(-1, keepdims=True)
  # The root has no gradient at 0.
  return x * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))
