"""Tells what a config's model costs, before anything is trained.

python -m experiments.measure --config=configs/survey/cifar10.py:w=0.25
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from rich.table import Table

from effarch.automation.trial import Trial
from effarch.infrastructure.cost import latency
from effarch.infrastructure.training import device_name
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  trial = Trial(command.trial_config())
  model = trial.model()
  model.eval()
  cost = trial.cost(model)
  graphdef, state = nnx.split(model)
  call = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
  shape = (1, *trial.source.input_shape)
  example = jax.random.uniform(jax.random.key(0), shape, jnp.float32, -1, 1)
  times = latency(lambda: call(state, example))

  table = Table(title=f"{command.config_file()}, one example")
  table.add_column("")
  table.add_column("", justify="right")
  table.add_row("input", "x".join(str(size) for size in shape))
  table.add_row("parameters", f"{cost.params:,}")
  table.add_row("statistics", f"{cost.statistics:,}")
  table.add_row("bytes", f"{cost.size_bytes:,}")
  table.add_row("MACs", f"{cost.macs:,}")
  table.add_row("FLOPs", f"{cost.flops:,}")
  table.add_row("XLA latency, median", f"{times.p50_us:,.0f} us")
  table.add_row("90th percentile", f"{times.p90_us:,.0f} us")
  table.add_row("99th percentile", f"{times.p99_us:,.0f} us")
  table.add_row("device", device_name())
  command.console().print(table)


if __name__ == "__main__":
  command.run(main)
