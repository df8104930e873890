"""Goes on with a text, by a language model that was trained on one.

python -m experiments.generate --workdir=runs/sequence/language/mamba2 "To be"
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from effarch.architectures.models import Decoder, generate
from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.infrastructure.data import TextFile
from effarch.infrastructure.training import RunFolder
from experiments import command

_TEMPERATURE = 0.8


def main(argv: list[str]) -> None:
  folder = RunFolder(command.workdir())
  if len(argv) != 1 or not argv[0]:
    raise UserError('a text to go on with is missing, say "To be"')
  trial = Trial(folder.read("config.json"))
  model = trial.trained(folder)
  source = trial.source
  if not isinstance(model, Decoder) or not isinstance(source, TextFile):
    raise UserError(f"{folder.path}: is no model of a text file")
  prompt = jnp.asarray(source.encode(argv[0]), jnp.int32)[None]
  # Places are learned for so many tokens, and the last goes out only.
  length = model.length - prompt.shape[1] + 1
  if length < 1:
    raise UserError(
      f"the text has {prompt.shape[1]} tokens, and the model takes "
      f"{model.length}; give a shorter one"
    )
  (tokens,) = generate(
    *(model, prompt, length),
    temperature=_TEMPERATURE,
    rng=jax.random.key(trial.seed),
  )
  print(argv[0] + source.decode(np.asarray(tokens)))


if __name__ == "__main__":
  command.run(main)
