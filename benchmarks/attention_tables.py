"""Tables and a picture of what `benchmarks.attention` found."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

Row = dict[str, Any]
# Those of the table in groups, as their colours are few.
GROUPS = {
  "exact": ("full", "grouped_query", "multi_query", "latent"),
  "sparse, fixed": (
    *("local", "sliding_window", "dilated", "block_sparse"),
    *("longformer", "big_bird"),
  ),
  "sparse, by content; low-rank": (
    *("sinkhorn", "reformer", "top_k", "linformer", "nystromformer"),
    *("dense_synthesizer", "random_synthesizer"),
    "factorized_random_synthesizer",
  ),
  "kernels": ("linear", "performer", "cosformer", "random_feature"),
  "recurrent": (
    *("retnet", "gated_linear", "delta", "gated_delta", "mamba2"),
    *("s4d", "s5"),
  ),
  "others": ("fnet", "gmlp", "mlp_mixer", "aft", "hyena"),
}


def exponent(rows: list[Row], name: str = "seconds") -> float | None:
  """Returns the power of the length that a number grows with.

  The slope of a line through the logarithms, from 1,024 tokens on: before,
  what does not grow is most of the time.
  """
  points = [
    (row["length"], row[name])
    for row in rows
    if row["length"] >= 1024 and row[name]
  ]
  if len(points) < 2:
    return None
  x, y = np.log(np.array(points, float)).T
  return float(np.polyfit(x, y, 1)[0])


def crossover(rows: list[Row], exact: list[Row]) -> float | None:
  """Returns the length from which on a mixer is faster than exact attention.

  Between two lengths that were measured, where the lines through the
  logarithms meet. The shortest length if it is faster at all, and None if it
  is not at the longest that both were measured at.
  """
  times = {row["length"]: row["seconds"] for row in exact}
  gaps = [
    (row["length"], math.log(row["seconds"] / times[row["length"]]))
    for row in rows
    if row["length"] in times
  ]
  if not gaps or gaps[-1][1] >= 0:
    return None
  for (left, slower), (right, faster) in zip(
    gaps[-2::-1], gaps[:0:-1], strict=True
  ):
    if slower >= 0:
      share = slower / (slower - faster)
      return left * (right / left) ** share
  return gaps[0][0]


def of(rows: list[Row], mixer: str, causal: bool, backward: bool) -> list[Row]:
  """Returns the rows of one mixer in one form, by length."""
  wanted = {"mixer": mixer, "causal": causal, "backward": backward}
  found = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
  return sorted(found, key=lambda row: row["length"])


def forms(rows: list[Row]) -> list[tuple[str, bool]]:
  """Returns the mixers of a run, and whether each is causal, in its order."""
  return list(dict.fromkeys((row["mixer"], row["causal"]) for row in rows))


def function_table(rows: list[Row]) -> str:
  """Returns milliseconds of attention functions, and ratios to JAX's own."""
  lines = [
    "| tokens | function | forward, ms | x | forward and backward, ms | x | "
    "temporary, MB, forward | and backward |",
    "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
  ]
  names = list(dict.fromkeys(row["function"] for row in rows))
  lengths = list(dict.fromkeys(row["length"] for row in rows))
  found = {(r["length"], r["function"], r["backward"]): r for r in rows}
  for length in lengths:
    for name in names:
      cells = [f"{length:,}", name]
      memory = []
      for backward in (False, True):
        row = found[length, name, backward]
        base = found[length, names[0], backward]["seconds"]
        cells.append(f"{row['seconds'] * 1e3:,.1f}")
        cells.append(f"{base / row['seconds']:.1f}")
        used = row["temporary_bytes"]
        memory.append("–" if used is None else f"{used / 1e6:,.1f}")
      lines.append(f"| {' | '.join(cells + memory)} |")
  return "\n".join(lines)


def mixer_table(rows: list[Row], backward: bool) -> str:
  """Returns times by length, exponents, crossovers, and memory."""
  lengths = sorted({row["length"] for row in rows})
  head = ["mixer", *(f"{n:,}" for n in lengths)]
  head += ["T^", "MACs T^", "faster from", f"MB at {lengths[-1]:,}"]
  lines = [
    f"| {' | '.join(head)} |",
    f"| --- |{' ---: |' * (len(head) - 1)}",
  ]
  for name, causal in forms(rows):
    own = of(rows, name, causal, backward)
    times = {row["length"]: row["seconds"] * 1e3 for row in own}
    cells = [name + (" (causal)" if causal else "")]
    cells += [f"{times[n]:,.1f}" if n in times else "–" for n in lengths]
    powers = [exponent(own), exponent(own, "macs")]
    cells += ["–" if power is None else f"{power:.2f}" for power in powers]
    start = None
    if name not in GROUPS["exact"]:
      start = crossover(own, of(rows, "full", causal, backward))
    cells.append("–" if start is None else f"{start:,.0f}")
    longest = own and own[-1]["length"] == lengths[-1]
    cells.append(f"{own[-1]['peak_bytes'] / 1e6:,.0f}" if longest else "–")
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def markdown(found: dict[str, Any]) -> str:
  """Returns all tables of a run."""
  mixers = found["mixers"]
  return "\n\n".join(
    [
      "Functions, `1 T 8 64` in float32; x: times faster than the first.",
      function_table(found["functions"]),
      "Mixers, forward, milliseconds by length.",
      mixer_table(mixers, False),
      "Mixers, forward and backward, milliseconds by length.",
      mixer_table(mixers, True),
    ]
  )


def plot(found: dict[str, Any]) -> bytes:
  """Returns a PNG of time over length: a panel a group, exact in each."""
  rows = found["mixers"]
  figure = Figure(figsize=(13, 8), layout="constrained")
  panels = figure.subplots(2, 3, sharex=True, sharey=True)
  seconds = [row["seconds"] for row in rows if not row["backward"]]
  for panel, (title, names) in zip(panels.flat, GROUPS.items(), strict=True):
    for causal, style in ((False, "--"), (True, ":")):
      exact = of(rows, "full", causal, False)
      _line(panel, exact, f"full{', causal' if causal else ''}", style)
    for name, causal in forms(rows):
      if name in names and name != "full":
        _line(panel, of(rows, name, causal, False), name, "-")
    panel.set_title(title)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(EngFormatter("s"))
    panel.grid(alpha=0.3)
    panel.set_ylim(min(seconds) / 2, max(seconds) * 50)  # A legend's room.
    panel.legend(fontsize=8, ncols=2, loc="upper left")
  for panel in panels[-1]:
    ticks = sorted({row["length"] for row in rows})
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.set_xlabel("tokens")
  for panel in panels[:, 0]:
    panel.set_ylabel("forward, median of rounds")
  device = found["runs"][0]["device"]
  figure.suptitle(f"Token mixers, 512 channels, 8 heads, {device}")
  file = io.BytesIO()
  figure.savefig(file, dpi=120, format="png")
  return file.getvalue()


def _line(panel, rows: list[Row], label: str, style: str) -> None:
  if rows:
    x = [row["length"] for row in rows]
    y = [row["seconds"] for row in rows]
    color = "black" if style != "-" else None
    marker = "o" if style == "-" else None
    panel.plot(x, y, style, color=color, marker=marker, label=label, ms=3)
