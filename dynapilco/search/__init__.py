"""Improving a policy inside the learned model."""

from dynapilco.search.config import SearchConfig
from dynapilco.search.evolution import EvolutionSearch
from dynapilco.search.evolution_config import EvolutionConfig
from dynapilco.search.imagination import Imagination, only_finite, predicted_returns
from dynapilco.search.pathwise import PathwiseSearch
from dynapilco.search.report import SearchReport

__all__ = [
    "EvolutionConfig",
    "EvolutionSearch",
    "Imagination",
    "PathwiseSearch",
    "SearchConfig",
    "SearchReport",
    "only_finite",
    "predicted_returns",
]
