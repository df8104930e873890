"""Ships a trained run as files, and measures them.

python -m experiments.export --workdir=runs/survey/cifar10/w=0.25
"""

from __future__ import annotations

from effarch.automation.trial import Trial
from effarch.infrastructure.export import read_artifacts, time_artifacts
from effarch.infrastructure.training import RunFolder
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  folder = RunFolder(command.workdir())
  Trial(folder.read("config.json")).ship(folder)
  time_artifacts([folder])
  for row in read_artifacts(folder):
    print(
      f"{folder.path / row['file']}: {row['size_bytes']:,} bytes, accuracy "
      f"{row['accuracy']:.4f} (in JAX {row['jax_accuracy']:.4f}, "
      f"{row['differs']} answers differ), {row['latency_us']:.0f} us, p99 "
      f"{row['latency_p99_us']:.0f} us"
    )


if __name__ == "__main__":
  command.run(main)
