"""Sizes that make token mixers comparable, and the arguments they lead to.

One setting serves all lengths: windows, blocks, landmarks and features are as
many as `w`, and blocks grow with the square root of the length where a
mechanism's cost is stated for that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from flax import nnx

from effarch.architectures.attention import ATTENTION, Mixer
from effarch.config import arguments


@dataclasses.dataclass(frozen=True)
class Size:
  """How large a mixer and its input are, in the docstrings' letters.

  Args:
    t: tokens.
    c: channels.
    n: heads.
    w: tokens of windows and blocks, landmarks, features.
    b: batch.
  """

  t: int
  c: int = 512
  n: int = 8
  w: int = 128
  b: int = 1

  @property
  def h(self) -> int:
    """Head size."""
    return self.c // self.n

  @property
  def root(self) -> int:
    """The power of two nearest to the square root of the length."""
    return 2 ** round(math.log2(self.t) / 2)

  def up(self, block: int) -> int:
    """The length rounded up to blocks."""
    return -(-self.t // block) * block


def make(name: str, size: Size, **options: Any) -> Mixer:
  """Returns the mixer of a name; options replace what the size leads to."""
  kind = ATTENTION[name]
  offered = {"num_heads": size.n, "max_length": size.t}
  taken = {k: v for k, v in offered.items() if k in arguments(kind)}
  given = {**taken, **ARGUMENTS[name](size), **options}
  return kind(size.c, **{"rngs": nnx.Rngs(0), **given})


def _nothing(s: Size) -> dict[str, Any]:
  return {}


# What each takes besides features, heads and the greatest length.
ARGUMENTS: dict[str, Callable[[Size], dict[str, Any]]] = {
  "full": _nothing,
  "grouped_query": lambda s: {"num_kv_heads": max(1, s.n // 4)},
  "multi_query": _nothing,
  "latent": lambda s: {"latent_dim": s.c // 4, "rotary_dim": s.h // 2},
  "local": lambda s: {"block_size": s.w},
  "sliding_window": lambda s: {"window": s.w},
  "dilated": lambda s: {"window": s.w // 2, "dilation": 2},
  "block_sparse": lambda s: {"block_size": s.root, "num_summary": 1},
  "longformer": lambda s: {"window": s.w, "num_global": 4},
  "big_bird": lambda s: {"block_size": s.w, "num_global": 1, "num_random": 2},
  "sinkhorn": lambda s: {"block_size": s.root},
  "reformer": lambda s: {"chunk_size": s.w // 2, "num_buckets": 16},
  "top_k": lambda s: {"block_size": s.root, "top_k": 4},
  "linformer": lambda s: {"projected_length": s.w},
  "nystromformer": lambda s: {"num_landmarks": s.w},
  "dense_synthesizer": _nothing,
  "random_synthesizer": _nothing,
  "factorized_random_synthesizer": lambda s: {"rank": 8},
  "linear": _nothing,
  "performer": lambda s: {"num_features": 2 * s.w},
  "cosformer": _nothing,
  "random_feature": lambda s: {"num_directions": s.w},
  "retnet": _nothing,
  "gated_linear": _nothing,
  "delta": _nothing,
  "gated_delta": _nothing,
  "mamba2": lambda s: {"state_dim": s.h},
  "s4d": lambda s: {"state_dim": s.h},
  "s5": lambda s: {"state_dim": s.h},
  "fnet": _nothing,
  "gmlp": _nothing,
  "mlp_mixer": lambda s: {"hidden_features": s.w},
  "aft": lambda s: {"rank": s.w},
  "hyena": _nothing,
}
