"""What the token mixers cost: the formulas of their docstrings.

Of mixers as `effarch.architectures.attention.sizes` makes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from effarch.architectures.attention.sizes import Size


@dataclasses.dataclass(frozen=True)
class Case:
  """A mixer of the table.

  Args:
    params: trained numbers, of a size.
    macs: multiply-accumulates, of a size and of whether it is causal.
  """

  params: Callable[[Size], int]
  macs: Callable[[Size, bool], int]


def _square(s: Size) -> int:
  """Parameters of four projections, which are their MACs a token."""
  return 4 * s.c * s.n * s.h


def _softmax(keys, params=_square, more=lambda s: 0) -> Case:
  """Attention of all tokens to so many keys each, and MACs for other things."""

  def macs(s: Size, causal: bool) -> int:
    seen = 2 * keys(s, causal) * s.n * s.h
    return s.b * (s.t * params(s) + seen + more(s))

  return Case(params, macs)


def _pairs(s: Size, causal: bool) -> int:
  """Queries times keys of exact attention."""
  return s.t**2 * 10 // 16 if causal and s.t >= 2048 else s.t**2


def _window(s: Size, causal: bool) -> int:
  size = max(s.w, 16)
  return s.up(size) * (size + (1 if causal else 2) * s.w)


def _dilated(s: Size, causal: bool) -> int:
  apart = dataclasses.replace(s, t=s.t // 2, w=s.w // 2)
  return 2 * _window(apart, causal)


def _longformer(s: Size, causal: bool) -> int:
  first = 0 if causal else 4 * s.t
  return _window(s, causal) + 4 * s.up(max(s.w, 16)) + first


def _big_bird(s: Size, causal: bool) -> int:
  blocks = min(6, s.up(s.w) // s.w)
  return s.up(s.w) * blocks * s.w + s.w * s.t


def _linear(features, extra_params=lambda s: 0, extra_macs=lambda s: 0) -> Case:
  """Kernel attention."""

  def macs(s: Size, causal: bool) -> int:
    f, values = s.n * features(s), s.h + 1
    if causal:
      seen = _chunks(s.t, 128) * s.n * (features(s) + values)
      seen += 2 * s.t * f * values
    else:
      seen = 2 * s.t * f * values
    return s.b * (s.t * _square(s) + seen + extra_macs(s))

  return Case(lambda s: _square(s) + extra_params(s), macs)


def _chunks(length: int, size: int) -> int:
  """The sum of squares of the chunks that a length is cut into."""
  return length // size * size**2 + (length % size) ** 2


def _recurrent(chunk, products, more=lambda s: 0, linear=None, inverse=False):
  """A memory of products; `products` a chunk's, and as many with the memory.

  Args:
    chunk: its tokens.
    products: of a chunk with itself, and of a token with the memory.
    more: parameters beyond projections, gate and norm.
    linear: those of them that are multiplied with each token.
    inverse: a chunk is also inverted, and multiplied with that.
  """
  linear = linear or (lambda s: 0)

  def params(s: Size) -> int:
    return 5 * s.c * s.n * s.h + s.h + more(s)

  def macs(s: Size, causal: bool) -> int:
    own = (products + inverse) * _chunks(s.t, chunk) * s.n * s.h
    own += inverse * s.t * s.n * (chunk**2 - 1) // 3
    memory = products * s.t * s.n * s.h**2
    each = 5 * s.c * s.n * s.h + linear(s)
    return s.b * (s.t * each + own + memory)

  return Case(params, macs)


def _synthesizer(params, scores, exact=_pairs) -> Case:
  """Scores without keys: their parameters, and their MACs."""

  def macs(s: Size, causal: bool) -> int:
    pairs = exact(s, causal)
    each = 2 * s.c * s.n * s.h
    return s.b * (s.t * each + pairs * s.n * s.h + scores(s, pairs))

  return Case(lambda s: 2 * s.c * s.n * s.h + params(s), macs)


def _landmarks(s: Size) -> int:
  m = min(s.w, s.t)
  return s.n * (4 * s.t * m * s.h + 24 * m**3 + 2 * m**2 * s.h)


def _sorting(s: Size) -> int:
  length = s.up(s.root)
  blocks = length // s.root
  return (blocks**2 + 2 * blocks * length) * s.n * s.h + blocks * length * s.n


_GQA = lambda s: 2 * s.c * s.n * s.h + 2 * s.c * max(1, s.n // 4) * s.h  # noqa: E731
_MQA = lambda s: 2 * s.c * s.n * s.h + 2 * s.c * s.h  # noqa: E731
_LATENT = lambda s: (  # noqa: E731
  s.c * s.n * (s.h + s.h // 2)
  + s.c * (s.c // 4 + s.h // 2)
  + 2 * (s.c // 4) * s.n * s.h
  + s.n * s.h * s.c
)
_MAMBA = lambda s: s.c * (4 * s.c + 2 * s.h + s.n) + 2 * s.c**2  # noqa: E731

CASES = {
  "full": _softmax(_pairs),
  "grouped_query": _softmax(_pairs, _GQA),
  "multi_query": _softmax(_pairs, _MQA),
  "latent": Case(
    lambda s: _LATENT(s) + s.c // 4,
    lambda s, causal: (
      s.b * (s.t * _LATENT(s) + _pairs(s, causal) * s.n * (2 * s.h + s.h // 2))
    ),
  ),
  "local": _softmax(lambda s, _: s.up(s.w) * s.w),
  "sliding_window": _softmax(_window),
  "dilated": _softmax(_dilated),
  "block_sparse": _softmax(
    lambda s, _: s.up(s.root) * (s.root + s.up(s.root) // s.root),
  ),
  "longformer": _softmax(_longformer),
  "big_bird": _softmax(_big_bird),
  "sinkhorn": _softmax(
    lambda s, _: 2 * s.up(s.root) * s.root,
    more=_sorting,
  ),
  "reformer": Case(
    lambda s: 3 * s.c * s.n * s.h,
    lambda s, _: (
      s.b
      * s.n
      * s.h
      * (s.t * 3 * s.c + 4 * 2 * s.up(s.w // 2) * (s.w // 2) + 2 * s.t * 8)
    ),
  ),
  "top_k": _softmax(
    lambda s, _: s.up(s.root) * s.root * min(4, s.up(s.root) // s.root),
    more=lambda s: (s.up(s.root) // s.root) ** 2 * s.n * s.h,
  ),
  "linformer": Case(
    lambda s: _square(s) + 2 * s.t * s.w,
    lambda s, _: s.b * (s.t * _square(s) + 4 * s.t * s.w * s.n * s.h),
  ),
  "nystromformer": Case(
    lambda s: _square(s) + 33 * s.n,
    lambda s, _: s.b * (s.t * _square(s) + _landmarks(s)),
  ),
  "dense_synthesizer": _synthesizer(
    lambda s: s.c * s.n * s.h + s.n * s.t * s.h,
    lambda s, pairs: s.t * s.c * s.n * s.h + pairs * s.n * s.h,
  ),
  "random_synthesizer": _synthesizer(
    lambda s: s.n * s.t**2,
    lambda s, pairs: 0,
    lambda s, causal: s.t**2,
  ),
  "factorized_random_synthesizer": _synthesizer(
    lambda s: 2 * s.n * s.t * 8,
    lambda s, pairs: pairs * s.n * 8,
  ),
  "linear": _linear(lambda s: s.h),
  "performer": _linear(
    lambda s: 2 * s.w, extra_macs=lambda s: 4 * s.t * s.n * s.h * s.w
  ),
  "cosformer": _linear(lambda s: 2 * s.h),
  "random_feature": _linear(
    lambda s: 2 * s.w,
    lambda s: s.n * s.h,
    lambda s: 2 * s.t * s.n * s.h * s.w,
  ),
  "retnet": _recurrent(128, 2),
  "gated_linear": _recurrent(
    *(16, 2),
    lambda s: 16 * (s.c + s.n * s.h) + s.n * s.h,
    lambda s: 16 * (s.c + s.n * s.h),
  ),
  "delta": _recurrent(
    *(64, 3),
    lambda s: s.c * s.n + 12 * s.n * s.h,
    lambda s: s.c * s.n,
    inverse=True,
  ),
  "gated_delta": _recurrent(
    *(64, 3),
    lambda s: 2 * s.c * s.n + 12 * s.n * s.h + 2 * s.n,
    lambda s: 2 * s.c * s.n,
    inverse=True,
  ),
  "mamba2": Case(
    lambda s: _MAMBA(s) + 4 * (2 * s.c + 2 * s.h) + 3 * s.n + 2 * s.c,
    lambda s, _: (
      s.b
      * (
        s.t * _MAMBA(s)
        + _chunks(s.t, 128) * s.n * 3 * s.h
        + 4 * s.t * s.n * s.h**2
      )
    ),
  ),
  "s4d": Case(
    lambda s: 4 * s.c + 2 * s.c * s.h + 2 * s.c**2,
    lambda s, _: s.b * s.t * 2 * s.c**2 + _filter(s.t) * s.c * s.h,
  ),
  "s5": Case(
    lambda s: 3 * s.h // 2 + 2 * s.c * s.h + 2 * s.c + s.c**2,
    lambda s, _: s.b * s.t * (2 * s.c * s.h + s.c**2),
  ),
  "fnet": Case(lambda s: 0, lambda s, _: 0),
  "gmlp": Case(
    lambda s: 6 * s.c**2 + 9 * s.c + s.t**2 + s.t,
    lambda s, _: s.b * (6 * s.t * s.c**2 + 2 * s.t**2 * s.c),
  ),
  "mlp_mixer": Case(
    lambda s: 2 * s.t * s.w + s.w + s.t,
    lambda s, _: s.b * 2 * s.t * s.c * s.w,
  ),
  "aft": Case(
    lambda s: 4 * s.c**2 + 2 * s.t * s.w,
    lambda s, _: s.b * (4 * s.t * s.c**2 + 2 * s.t**2 * s.c) + s.t**2 * s.w,
  ),
  "hyena": Case(
    lambda s: 4 * s.c**2 + 143 * s.c + 9 * 64 + 64**2 + 128,
    lambda s, _: s.b * s.t * 4 * s.c**2 + s.t * (9 * 64 + 64**2 + 128 * s.c),
  ),
}


def _filter(length: int) -> int:
  """Tokens of a filter that is made in blocks as long as its root."""
  size = max(1, round(length**0.5))
  return -(-length // size) * size
