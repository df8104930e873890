"""How fast a decoder generates, and what it keeps, by its mixer.

  python -m benchmarks.generation --json=results/generation_cpu.json

Decoders of the size of `benchmarks.sequence_tasks` generate from one token,
greedily, in one compiled program; those of one length and batch take turns.
Beside each stands `full`, exact attention with its cache of keys and values.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import pathlib
import shlex
import sys
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from configs import arena
from effarch.architectures.attention import ATTENTION
from effarch.architectures.attention.sizes import Size
from effarch.architectures.models import Decoder, generate
from effarch.infrastructure.cost import latencies
from effarch.infrastructure.training import provenance

CAUSAL = [name for name, kind in ATTENTION.items() if kind.supports.causal]
_VOCABULARY = 128
_DEPTH, _HIDDEN = 4, 128
_ROUNDS = 5


def decoder(name: str, length: int) -> Decoder:
  """Returns a decoder of so many tokens, sized by the budget at 256.

  Those with parameters for places have more where they take more tokens.
  """
  size = Size(t=256, c=64, n=4, w=32)
  model = Decoder(
    *((length,), _VOCABULARY),
    vocab_size=_VOCABULARY,
    features=size.c,
    num_heads=size.n,
    **arena.fit("decoder", name, size, _DEPTH, _HIDDEN),
    mixers=arena.mixers(name, size),
    positions="none",
    rngs=nnx.Rngs(0),
  )
  model.eval()
  return model


def state_bytes(model: Decoder, batch_size: int, length: int) -> int:
  """Returns the bytes of a stream's state."""
  state = jax.eval_shape(lambda: model.init_state(batch_size, length))
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def rows(
  names: list[str], length: int, batch_size: int
) -> list[dict[str, Any]]:
  """Returns tokens a second and the state's bytes of each mixer."""
  prompt = jnp.ones((batch_size, 1), jnp.int32)
  models = [decoder(name, length) for name in names]
  calls = [
    functools.partial(generate, model, prompt, length) for model in models
  ]
  times = latencies(calls, calls=_ROUNDS, rounds=_ROUNDS)
  return [
    {
      "mixer": name,
      "length": length,
      "batch_size": batch_size,
      "tokens_per_second": batch_size * length / found.p50_us * 1e6,
      "slowest": batch_size * length / found.high_us * 1e6,
      "fastest": batch_size * length / found.low_us * 1e6,
      "state_bytes": state_bytes(model, batch_size, length),
    }
    for name, model, found in zip(names, models, times, strict=True)
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--json", type=pathlib.Path, required=True)
  parser.add_argument("--mixers", nargs="*", default=CAUSAL)
  parser.add_argument("--lengths", nargs="*", type=int, default=[256, 1024])
  parser.add_argument("--batches", nargs="*", type=int, default=[1, 16])
  asked = parser.parse_args()
  words = ["python", "-m", "benchmarks.generation", *sys.argv[1:]]
  made = {"provenance": provenance(shlex.join(words)), "rows": []}
  for length, batch_size in itertools.product(asked.lengths, asked.batches):
    made["rows"] += rows(asked.mixers, length, batch_size)
    asked.json.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{length} tokens, batch {batch_size}: done", flush=True)


if __name__ == "__main__":
  main()
