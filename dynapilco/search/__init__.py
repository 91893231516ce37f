"""Improving a policy inside the learned model."""

from dynapilco.search.config import SearchConfig
from dynapilco.search.imagination import Imagination, only_finite, predicted_returns
from dynapilco.search.pathwise import PathwiseSearch, SearchReport

__all__ = ["Imagination", "PathwiseSearch", "SearchConfig", "SearchReport", "only_finite", "predicted_returns"]
