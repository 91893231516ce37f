"""Statistics of a comparison, after Agarwal et al. 2021: what few seeds can show, and what they cannot."""

from dynapilco.compare.stats.compute import aggregate_scores, statistics
from dynapilco.compare.stats.result import Statistics

__all__ = ["Statistics", "aggregate_scores", "statistics"]
