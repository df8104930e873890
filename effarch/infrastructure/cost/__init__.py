"""What a model costs: parameters, bytes, MACs, FLOPs, memory and latency.

`measure` is the one call; `count` is for what has no modules.
"""

from effarch.infrastructure.cost.count import Cost, count
from effarch.infrastructure.cost.latency import Latency, latencies, latency
from effarch.infrastructure.cost.measure import measure
from effarch.infrastructure.cost.report import Report, Row
from effarch.infrastructure.cost.roofline import Ceilings, Roofline, ceilings
from effarch.infrastructure.cost.sweep import Sweep

__all__ = [
  "Ceilings",
  "Cost",
  "Latency",
  "Report",
  "Roofline",
  "Row",
  "Sweep",
  "ceilings",
  "count",
  "latencies",
  "latency",
  "measure",
]
