"""Where the five areas meet: frontiers of real artifacts, and their report."""

from effarch.strategies.choose import best_under, knee
from effarch.strategies.confidence import confident_frontier
from effarch.strategies.epsilon import thin
from effarch.strategies.frontier import hypervolume, non_dominated
from effarch.strategies.grow_improve_shrink import GrowImproveShrink
from effarch.strategies.limits import Limit, parse_limit
from effarch.strategies.records import collect
from effarch.strategies.seeds import over_seeds
from effarch.strategies.shrink_and_improve import ShrinkAndImprove

STRATEGIES = {
  "grow_improve_shrink": GrowImproveShrink,
  "shrink_and_improve": ShrinkAndImprove,
}

__all__ = [
  "STRATEGIES",
  "GrowImproveShrink",
  "Limit",
  "ShrinkAndImprove",
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
