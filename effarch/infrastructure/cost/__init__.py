"""What a model costs: parameters, bytes, MACs, FLOPs and latency."""

from effarch.infrastructure.cost.count import Count, count
from effarch.infrastructure.cost.latency import Latency, latencies, latency
from effarch.infrastructure.cost.model import ModelCost, model_cost

__all__ = [
  "Count",
  "Latency",
  "ModelCost",
  "count",
  "latencies",
  "latency",
  "model_cost",
]
