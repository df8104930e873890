"""Where the five areas meet: frontiers of real artifacts, and their report."""

from effarch.strategies.choose import best_under, knee
from effarch.strategies.confidence import confident_frontier
from effarch.strategies.epsilon import thin
from effarch.strategies.frontier import hypervolume, non_dominated
from effarch.strategies.limits import Limit, parse_limit
from effarch.strategies.records import collect
from effarch.strategies.seeds import over_seeds

__all__ = [
  "Limit",
  "best_under",
  "collect",
  "confident_frontier",
  "hypervolume",
  "knee",
  "non_dominated",
  "over_seeds",
  "parse_limit",
  "thin",
]
