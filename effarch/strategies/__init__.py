"""Where the five areas meet: frontiers of real artifacts, and their report."""

from effarch.strategies.frontier import hypervolume, non_dominated

__all__ = ["hypervolume", "non_dominated"]
