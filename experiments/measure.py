"""Tells what a config's model costs, before anything is trained.

python -m experiments.measure --config=configs/survey/cifar10.py:w=0.25

`--config.measure.batch_sizes=(1,8,64)` and, where an input is a sequence,
`--config.measure.sequence_lengths=(256,1024)` measure each combination;
`--config.measure.train=True` measures training steps. The numbers are written
to `cost.json`, `cost.csv`, `sweep.json` and `sweep.png` in `--workdir`.
"""

from __future__ import annotations

import dataclasses

from rich.table import Table

from effarch.automation.trial import Trial
from effarch.errors import UserError
from effarch.infrastructure.cost import measure, sweep
from effarch.infrastructure.cost.table import size
from effarch.infrastructure.training import (
  RunFolder,
  device_name,
  provenance,
)
from experiments import command


def main(argv: list[str]) -> None:
  del argv
  trial, varied = Trial(command.trial_config()), command.part("measure")
  model = trial.model()
  optimizer = trial.optimizer(total_steps=1000) if varied.train else None
  try:
    reports = varied.reports(
      lambda inputs: measure(
        model, inputs, train=varied.train, optimizer=optimizer
      ),
      trial.source.input_shape,
      trial.source.example().dtype,
    )
  except ValueError as error:
    raise UserError(f"config.measure.{error}") from error
  _, first = reports[0]
  rows = sweep.timed(reports)
  print(first)
  print(dataclasses.replace(first.roofline(), measured_us=rows[0]["p50_us"]))
  command.console().print(_table(rows))
  folder = RunFolder(command.workdir(f"measure/{command.run_name()}"))
  made = {"provenance": provenance(command.command_line())}
  folder.write(
    "cost.json", {**made, **first.summary(), "modules": first.rows()}
  )
  folder.write_bytes("cost.csv", first.to_csv().encode())
  folder.write("sweep.json", {**made, "rows": rows})
  title = f"{command.config_file()}, {device_name()}"
  folder.write_bytes("sweep.png", sweep.plot(rows, title))
  print(f"written to {folder.path}")


def _table(rows: list[sweep.Row]) -> Table:
  table = Table(title=f"{command.config_file()} on {device_name()}")
  varied = [k for k in ("batch_size", "sequence_length") if k in rows[0]]
  titles = ("MACs", "memory", "compiling", "median", "rounds", "p90", "p99")
  for title in (*(k.replace("_", " ") for k in varied), *titles, "an example"):
    table.add_column(title, justify="right")
  for row in rows:
    table.add_row(
      *(str(row[key]) for key in varied),
      f"{row['macs']:,}",
      size(row["peak_bytes"]),
      f"{row['compile_seconds']:.1f} s",
      f"{row['p50_us']:,.0f} us",
      f"{row['low_us']:,.0f} to {row['high_us']:,.0f}",
      f"{row['p90_us']:,.0f} us",
      f"{row['p99_us']:,.0f} us",
      f"{row['us_per_example']:,.1f} us",
    )
  return table


if __name__ == "__main__":
  command.run(main)
